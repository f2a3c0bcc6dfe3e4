"""Flags from a dataclass of settings: their help is the text below each field, wrapped like any paragraph."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

Config = TypeVar("Config")

_, *POSITIONAL = get_args(tyro.conf.Positional[int])


def settings_from_flags(config_class: type[Config]) -> Config:
    """The settings of this process's command line; a wrong flag, and --help, end the process."""
    registry = tyro.constructors.ConstructorRegistry()
    registry.struct_rule(_described)
    return tyro.cli(
        config_class,
        description=config_class.__doc__,
        config=(tyro.conf.HelptextFromCommentsOff,),  # comments speak to who reads the code
        registry=registry,
    )


def _described(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
    """How tyro makes a dataclass from flags, with our help texts."""
    if not dataclasses.is_dataclass(info.type):
        return None
    kinds, texts = get_type_hints(info.type, include_extras=True), field_texts(info.type)
    is_given = dataclasses.is_dataclass(info.default)
    specs = []
    for field in dataclasses.fields(info.type):
        kind, text = kinds[field.name], texts.get(field.name)
        if text is not None:
            text, hint = _cut(text)
            how = tyro.conf.arg(help=text, metavar=_metavar(field.name, kind), help_behavior_hint=hint)
            kind = Annotated[kind, how]
        default = getattr(info.default, field.name) if is_given else _default(field)
        specs.append(tyro.constructors.StructFieldSpec(field.name, kind, default))
    return tyro.constructors.StructConstructorSpec(info.type, tuple(specs))


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return tyro.MISSING_NONPROP if field.default_factory is dataclasses.MISSING else field.default_factory()


def field_texts(config_class: type) -> dict[str, str]:
    """The text below each field in the source, on one line."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts


def _cut(text: str) -> tuple[str, str | Callable[[str], str]]:
    """A help text and what tyro shows behind it: the default, in the text's own words where it has some."""
    if "(default" not in text:
        return text, lambda default: f"(default: {'none' if default in ('None', '') else default})"
    before, mark, after = text.rpartition(" (default")
    if ")" in after.rstrip(".)"):  # it goes on behind that, and tyro wants something to show
        before, mark, after = text.rpartition(" ")
    return before, f"{mark}{after}".lstrip()


def _metavar(name: str, kind: Any) -> str | None:
    """The placeholder of a value: SOURCE, and INT rather than {None}|INT; None where tyro's own is as good."""
    if get_origin(kind) is Annotated:
        return name.upper() if [*get_args(kind)[1:]] == POSITIONAL else None
    if get_origin(kind) not in (Union, UnionType):
        return None
    [inner] = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(inner) is Literal:
        return "{" + ",".join(get_args(inner)) + "}"
    return " ".join(each.__name__.upper() for each in get_args(inner) or (inner,))
