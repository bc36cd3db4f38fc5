"""`@action` and `@context`: what a function was called with, gave back or raised becomes a record; it itself is untouched.

Outside of a run the functions just run. Generators are recorded when they end, with the list of what they yielded. A generator
belongs to the run in which its first item is asked for.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator
from types import CoroutineType, MethodType, coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from .. import guard, shape
from ..codec import snapshot
from . import entering, faults, generators, scope
from .edits import Unit, difference
from .scope import Acting, Scope

P = ParamSpec("P")
R = TypeVar("R")


@overload
def action(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def action(
    *, name: str | None = None, description: str | None = None, ignore: tuple[str, ...] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def action(fn: Any = None, /, *, name: str | None = None, description: str | None = None, ignore: tuple[str, ...] = ()) -> Any:
    """Each call of the function, inside a run, is an action: arguments, result or exception, and duration.

    `ignore`: names of parameters that are not recorded, such as a runtime or a callback. A class stays the class: calls of its
    objects are recorded. Raises TypeError for a class whose objects can't be called.
    """
    if fn is None:
        return functools.partial(action, name=name, description=description, ignore=ignore)
    _check(fn, "action", "@odograph.action(name=...)")
    if isinstance(fn, type):
        return _called(fn, lambda call: _action(call, name or fn.__name__, description, ignore))
    return _action(fn, name, description, ignore)


def _action(fn: Any, name: str | None, description: str | None, ignore: tuple[str, ...]) -> Any:
    about = None if description is None else {"description": description}
    called = name or _name(fn)
    hidden = _ignored(ignore)
    return _kept(fn, lambda inner: _wrapped(inner, lambda within, given: within.acting(called, given, metadata=about), hidden))


@overload
def context(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def context(*, provider: str | None = None, purpose: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def context(fn: Any = None, /, *, provider: str | None = None, purpose: str | None = None) -> Any:
    """Records each call of the function inside a run as a context read: arguments are the query, the result is the data."""
    if fn is None:
        return functools.partial(context, provider=provider, purpose=purpose)
    _check(fn, "context", "@odograph.context(provider=...)")
    why = purpose if purpose is not None else (getattr(fn, "__doc__", None) or "").strip().split("\n")[0] or None
    if isinstance(fn, type):
        return _called(fn, context(provider=provider or fn.__name__, purpose=why))
    reader = provider or _name(fn)
    return _kept(fn, lambda inner: _wrapped(inner, lambda within, arguments: _Reading(within, reader, arguments, why)))


def wrap_action(
    fn: Callable[P, R], name: str | None = None, description: str | None = None, ignore: tuple[str, ...] = ()
) -> Callable[P, R]:
    """`fn`, recorded as an action: `action` as a function, for handlers that are not yours to decorate.

    `ignore`: names of parameters that are not recorded, such as a runtime or a callback.
    """
    _check(fn, "wrap_action", "wrap_action(handler, name=...)")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is a string, not {type(name).__name__}: wrap_action(handler, name=...)")
    return cast("Callable[P, R]", _action(fn, name, description, ignore))


def _check(fn: Any, taker: str, right: str) -> None:
    if not callable(fn) and not hasattr(type(fn), "__get__"):  # what has `__get__` gives a function
        raise TypeError(f"{taker} takes a function, not {type(fn).__name__}: {right}")


def _called(kind: type, wrap: Callable[[Any], Any]) -> type:
    """A class, the calls of whose objects are wrapped. Raises TypeError."""
    call = next((vars(one)["__call__"] for one in kind.__mro__ if "__call__" in vars(one)), None)
    if call is None:
        raise TypeError(
            f"{kind.__name__} is a class, and its objects can't be called: there is nothing to record. Decorate its methods, or"
            f" give the class a __call__; odograph.wrap_action({kind.__name__}) is a function that makes an object, recorded"
        )
    setattr(kind, "__call__", wrap(call))  # noqa: B010
    return kind


def _ignored(names: Any) -> frozenset[str]:
    """The names of parameters that are not recorded. Raises TypeError for what is no list of names."""
    if isinstance(names, str) or not all(isinstance(n, str) for n in names):
        raise TypeError(f'ignore is a list of names of parameters, such as ("runtime", "callback"), not {names!r}')
    return frozenset(names)


@overload
def edit(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def edit(
    *, reason: str | None = None, author: str | None = None, preferred: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def edit(fn: Any = None, /, *, reason: str | None = None, author: str | None = None, preferred: bool = False) -> Any:
    """Records the changes of a function from a response to an edited response (text or token ids) as edits.

    An edit of the step's last call is recorded if the function runs inside a run, the first argument is the text or the ids of
    that call, and the result is another text or list. The function's own result is returned unchanged. A generator function is
    left undecorated, with a warning: its result is not known before the generator ends.
    """
    if fn is None:
        return functools.partial(edit, reason=reason, author=author, preferred=preferred)
    _check(fn, "edit", "@odograph.edit(reason=...)")
    about: dict[str, Any] = {
        "reason": reason or (getattr(fn, "__doc__", None) or "").strip().split("\n")[0] or None,
        "author": author or _name(fn),
    }
    if isinstance(fn, type):
        return _called(fn, lambda call: _edited(call, about, preferred))
    return _kept(fn, lambda inner: _edited(inner, about, preferred))


def _as_it_is(response: Any) -> Any:
    """A response as it is before the function may change it."""
    return list.__getitem__(response, slice(None)) if issubclass(type(response), list) else response


def _edited(fn: Any, about: dict[str, Any], preferred: bool) -> Any:
    names = list(signature.parameters) if (signature := shape.signature(fn)) else []
    at = 1 if names and names[0] in ("self", "cls") else 0  # the place of the response among the arguments

    def response(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[at] if len(args) > at else kwargs.get(names[at]) if len(names) > at else None

    def note(given: Any, result: Any) -> None:
        within = scope.current()
        made = within.last_call if within is not None else None
        if within is None or made is None or not issubclass(type(given), (str, list)) or type(given) is not type(result):
            return
        try:
            on: Unit = "text" if issubclass(type(given), str) else "tokens"
            within.edit(made, difference(given, result), on=on, preferred=preferred, **about)
        except Exception as error:
            faults.fault(error)

    import inspect

    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        guard.warn(
            f"odograph.edit can't record {_name(fn)}, a generator function; the function must return the response", stacklevel=5
        )
        return fn
    wrapper: Any
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            given = _as_it_is(response(args, kwargs))
            result = await fn(*args, **kwargs)
            note(given, result)
            return result

    else:

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            given = _as_it_is(response(args, kwargs))
            result = fn(*args, **kwargs)
            note(given, result)
            return result

    return wrapper


def _in_the_current_scope(method: Callable[Concatenate[Any, P], R]) -> Callable[[Callable[..., Any]], Callable[P, R | None]]:
    """A function with the parameters of a scope's method, which is called on the current scope; None outside of a run."""

    def made(documented: Callable[..., Any]) -> Callable[P, R | None]:
        @functools.wraps(documented)
        def logged(*args: P.args, **kwargs: P.kwargs) -> R | None:
            within = scope.here()
            if within is None:
                from inspect import signature  # slow to import

                signature(method).bind(None, *args, **kwargs)  # wrong use is told outside of a run, too
                return None
            return method(within, *args, **kwargs)

        logged.__wrapped__ = MethodType(method, logged)  # whose signature editors show
        return logged

    return made


@_in_the_current_scope(Scope.context)
def log_context() -> None:
    """Records a context read in the current scope, as `step.context` does. Returns the record's id; None outside of a run."""


@_in_the_current_scope(Scope.llm_call)
def log_llm_call() -> None:
    """Records a model call in the current scope, as `step.llm_call` does. Returns the call; None outside of a run."""


class _Reading(Scope):
    """A read that is being done; its record is written at the end."""

    def __init__(self, parent: Scope, provider: str, query: Any, purpose: str | None) -> None:
        super().__init__(parent._recorder, parent._id, parent._agent, parent._step)
        self._about: dict[str, Any] = {"query": snapshot(query), "purpose": purpose, "started": time.time_ns()}
        self._provider = provider
        self._process = entering.process
        self._clock = time.perf_counter_ns()
        self.result: Any = None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if entering.is_anothers(self._process):
            return
        self.context(self._provider, self.result, error=error, duration=time.perf_counter_ns() - self._clock, **self._about)


def _name(fn: Any) -> str:
    for inside in ("__func__", "func", "fget"):  # of a classmethod, a partial, a property
        if isinstance(fn, _HOLDERS) and hasattr(fn, inside):
            return _name(getattr(fn, inside))
    found: str = getattr(fn, "__name__", None) or type(fn).__name__
    return found


_HOLDERS = (
    classmethod,
    staticmethod,
    property,
    functools.partial,
    functools.partialmethod,
    functools.cached_property,
    functools.singledispatchmethod,
    MethodType,
)


def _kept(fn: Any, wrap: Callable[[Any], Any]) -> Any:
    """What holds a function, holding the wrapped one: a classmethod stays a classmethod, a partial a partial."""
    if isinstance(fn, (classmethod, staticmethod)):
        return type(fn)(_kept(fn.__func__, wrap))
    if type(fn) in (functools.partial, functools.partialmethod):
        return type(fn)(_kept(fn.func, wrap), *fn.args, **fn.keywords)
    if isinstance(fn, MethodType):
        return MethodType(_kept(fn.__func__, wrap), fn.__self__)
    if type(fn) is property:
        return property(fn.fget and _kept(fn.fget, wrap), fn.fset, fn.fdel, fn.__doc__)
    if type(fn) is functools.cached_property:
        return functools.cached_property(_kept(fn.func, wrap))
    if not callable(fn) and hasattr(type(fn), "__get__"):
        return _Descriptor(fn, wrap)
    return wrap(fn)


class _Descriptor:
    """What gives a function to who asks an object or a class for it (`functools.singledispatchmethod`): gives it wrapped."""

    def __init__(self, inner: Any, wrap: Callable[[Any], Any]) -> None:
        self._inner = inner
        self._wrap = wrap

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self._wrap(self._inner.__get__(owner, kind))

    def __set_name__(self, kind: Any, name: str) -> None:
        if hasattr(type(self._inner), "__set_name__"):
            self._inner.__set_name__(kind, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_inner"], name)


def _wrapped(fn: Any, begin: Callable[[Scope, Any], Acting | _Reading], ignore: frozenset[str] = frozenset()) -> Any:
    import inspect  # slow to import, and only decorating needs it

    signature = shape.signature(fn)
    names = list(signature.parameters) if signature else []
    skip = ignore | {names[0]} if names and names[0] in ("self", "cls") else ignore

    def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Acting | _Reading | None:
        within = scope.here()
        if within is None:
            return None
        try:
            return begin(within, _arguments(signature, skip, args, kwargs))
        except Exception as error:
            faults.fault(error)
            return None

    wrapper: Any
    # a callable object is what its `__call__` is
    called = fn if inspect.isroutine(fn) or inspect.isclass(fn) else getattr(fn, "__call__", fn)  # noqa: B004
    if inspect.isasyncgenfunction(called):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            items: list[Any] = []
            part = opened(args, kwargs)
            if part is not None:
                part.result = items
            inner = fn(*args, **kwargs)
            failure: BaseException | None = None
            sent: Any = None
            thrown: BaseException | None = None
            try:
                while True:
                    token = None if part is None else entering.enter(part)
                    try:
                        item = await (inner.asend(sent) if thrown is None else inner.athrow(thrown))
                    except StopAsyncIteration:
                        return
                    finally:
                        if token is not None and part is not None:
                            entering.leave(part, token)
                    if part is not None:
                        items.append(item)
                    sent = thrown = None
                    try:
                        sent = yield item
                    except BaseException as error:  # GeneratorExit, too: how the function ends is inside of `part`
                        thrown = error
            except BaseException as error:
                if not isinstance(error, GeneratorExit):  # else the consumer had enough: that is no failure
                    failure = error
                raise
            finally:
                if part is not None:
                    part.__exit__(type(failure) if failure else None, failure, None)

        generators.edge(wrapper)

    elif inspect.isgeneratorfunction(called):

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            part = opened(args, kwargs)
            inner = fn(*args, **kwargs)
            return (yield from (inner if part is None else _drive(inner, part)))

        code = getattr(called, "__code__", None)
        if getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:  # of `types.coroutine`: awaited, not iterated
            wrapper = coroutine(wrapper)

    elif inspect.iscoroutinefunction(called):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            part = opened(args, kwargs)
            if part is None:
                return await fn(*args, **kwargs)
            with part:
                result = part.result = await fn(*args, **kwargs)
            return result

    else:

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            part = opened(args, kwargs)
            if part is None:
                return fn(*args, **kwargs)
            token = entering.enter(part)
            try:
                result = part.result = fn(*args, **kwargs)
            except BaseException as error:
                entering.leave(part, token)
                part.__exit__(type(error), error, None)
                raise
            entering.leave(part, token)
            if type(result) is CoroutineType:  # what is to be recorded has not happened yet
                return _awaited(result, part)
            part.__exit__(None, None, None)
            return result

        generators.edge(wrapper)

    if not inspect.isfunction(fn):
        return _offering(fn, wrapper)
    return _looking(wrapper, fn, signature)


async def _awaited(inner: Any, part: Acting | _Reading) -> Any:
    part.result = None
    with part:
        part.result = await inner
    return part.result


def _looking(wrapper: Any, fn: Any, signature: Any) -> Any:
    """The wrapper of a function, which says the same of its parameters also to who does not ask the function inside."""
    wrapper.__defaults__, wrapper.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
    if signature is not None:
        wrapper.__signature__ = signature
    return wrapper


def _offering(fn: Any, wrapper: Any) -> Any:
    """The wrapper of what is no plain function, with its methods: `cache_info` of `functools.lru_cache`."""
    try:
        for name in dir(fn):
            offered = None if name.startswith("_") else getattr(fn, name)
            if callable(offered):
                setattr(wrapper, name, offered)
    except Exception as error:
        faults.fault(error)
    return wrapper


def _arguments(signature: Any, skip: frozenset[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if signature is not None:
        try:
            bound = dict(signature.bind(*args, **kwargs).arguments)
            for parameter in signature.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    bound.update(bound.pop(parameter.name, {}))
            return {name: value for name, value in bound.items() if name not in skip}
        except TypeError:  # the call itself will fail, and say why
            pass
    return {"args": list(args), **{name: value for name, value in kwargs.items() if name not in skip}}


def _drive(inner: Generator[Any, Any, Any], part: Acting | _Reading) -> Generator[Any, Any, Any]:
    """Runs a generator inside of `part`, which is the current scope only while the generator itself runs."""
    items: list[Any] = []
    part.result = items
    failure: BaseException | None = None
    sent: Any = None
    thrown: BaseException | None = None
    try:
        while True:
            token = entering.enter(part)
            try:
                item = inner.send(sent) if thrown is None else inner.throw(thrown)
            except StopIteration as stop:
                return stop.value
            finally:
                entering.leave(part, token)
            items.append(item)
            sent = thrown = None
            try:
                sent = yield item
            except BaseException as error:  # GeneratorExit, too: how the function ends is inside of `part`
                thrown = error
    except BaseException as error:
        if not isinstance(error, GeneratorExit):  # else the consumer had enough: that is no failure
            failure = error
        raise
    finally:
        part.__exit__(type(failure) if failure else None, failure, None)


generators.edge(_drive)
