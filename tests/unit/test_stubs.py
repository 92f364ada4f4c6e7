"""The stubs of the extension module say what the module has, and no more."""

import ast
import inspect
from pathlib import Path

import pytest

import taskloom
from taskloom import _taskloom

STUBS = Path(taskloom.__file__).with_name("_taskloom.pyi")
TREE = ast.parse(STUBS.read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}
NAMES = [
    node.target.id
    for node in TREE.body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
]


def members(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def stub_parameters(node: ast.FunctionDef) -> list[tuple[str, bool, bool]]:
    """Name, whether it has a default, whether it is given by name only."""
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    optional = len(arguments.defaults)
    found = [
        (argument.arg, position >= len(positional) - optional, False)
        for position, argument in enumerate(positional)
    ]
    found += [
        (argument.arg, default is not None, True)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return [entry for entry in found if entry[0] not in ("self", "cls")]


def real_parameters(function: object) -> list[tuple[str, bool, bool]]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        (p.name, p.default is not p.empty, p.kind is p.KEYWORD_ONLY)
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("self", "cls") and p.kind not in variable
    ]


def test_the_package_is_marked_as_typed():
    assert STUBS.with_name("py.typed").exists()


def test_the_stubs_name_what_the_module_has():
    has = {name for name in vars(_taskloom) if not is_special(name)}
    assert has == CLASSES.keys() | FUNCTIONS.keys() | {n for n in NAMES if not is_special(n)}


@pytest.mark.parametrize("name", CLASSES)
def test_the_class_has_the_members_of_its_stub(name):
    has = {member for member in vars(getattr(_taskloom, name)) if not is_special(member)}
    assert has == {member for member in members(CLASSES[name]) if not is_special(member)}


METHODS = [
    (kind, name)
    for kind, node in CLASSES.items()
    for name, member in members(node).items()
    if not is_special(name) and "property" not in [ast.unparse(d) for d in member.decorator_list]
]


@pytest.mark.parametrize(("kind", "name"), METHODS, ids=lambda text: text)
def test_the_method_takes_what_its_stub_says(kind, name):
    method = getattr(getattr(_taskloom, kind), name)
    assert real_parameters(method) == stub_parameters(members(CLASSES[kind])[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_takes_what_its_stub_says(name):
    assert real_parameters(getattr(_taskloom, name)) == stub_parameters(FUNCTIONS[name])


PROPERTIES = [
    (kind, name)
    for kind, node in CLASSES.items()
    for name, member in members(node).items()
    if "property" in [ast.unparse(d) for d in member.decorator_list]
]


@pytest.mark.parametrize(("kind", "name"), PROPERTIES, ids=lambda text: text)
def test_the_attribute_is_no_method(kind, name):
    assert inspect.isgetsetdescriptor(vars(getattr(_taskloom, kind))[name])
