"""The tables of the lake: what a table is, its Parquet files, and the commits that say which files are live.

Who brings a table (sealing, worlds) names its columns and hands in rows; nothing here knows what the rows mean.
"""
