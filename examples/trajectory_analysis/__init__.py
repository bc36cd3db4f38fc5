"""Recorded sessions, labelled by two rubrics in two forks, checked by a person, compared, drawn and reported."""
