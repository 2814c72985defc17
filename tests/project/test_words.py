"""Words of packages and benchmarks: docstrings are sentences, prepositions are plain, local variables are nouns."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "tfq_fine": ROOT / "tfq_fine",
    "tfq_converters": ROOT / "converters/tfq_converters",
    "benchmarks": ROOT / "benchmarks",
}
NOT_FIRST = re.compile(r"(Of|The same|What|Where|As|Those|That|Return that|Return those|Return the same)\b")
NOT_A_SENTENCE = re.compile(
    r"(The|A|An|All|Every|Whether|How|One|Why)\b|[^A-Z]"
)  # of a function that returns something
PREPOSITIONS = re.compile(r"\b(behind|in front of|beside)\b", re.IGNORECASE)
COMMENT_OF_NOTHING = re.compile(r"# ?of\b", re.IGNORECASE)  # it leaves out the noun that it is about
VAGUE = {"found", "known", "given", "wanted", "seen"}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules(package: str) -> dict[str, ast.Module]:
    """Return the syntax tree of every module, by its path."""
    folder = PACKAGES[package]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}
    assert f"{folder.relative_to(ROOT)}/__init__.py" in trees
    return trees


def documented(tree: ast.Module) -> Iterator[tuple[Documented, str]]:
    for node in ast.walk(tree):
        if isinstance(node, Documented):
            text = ast.get_docstring(node)
            if text:
                yield node, text


def is_function_with_result(node: Documented) -> bool:
    """Return whether the node is a function, no property, that is said to return something."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.returns is None:
        return False
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return ast.unparse(node.returns) != "None" and not decorators & {"property", "cached_property", "setter"}


def bad_first_words(trees: dict[str, ast.Module]) -> list[str]:
    bad = []
    for path, tree in trees.items():
        for node, text in documented(tree):
            first = text.splitlines()[0]
            if NOT_FIRST.match(first) or (is_function_with_result(node) and NOT_A_SENTENCE.match(first)):
                bad.append(f"{path}: {first}")
    return bad


def bad_prepositions(trees: dict[str, ast.Module]) -> list[str]:
    """Return the strings, docstrings among them, with a preposition that has a plainer name."""
    return [
        f"{path}:{node.lineno}: {node.value.strip().splitlines()[0]}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and PREPOSITIONS.search(node.value)
    ]


def vague_locals(trees: dict[str, ast.Module]) -> list[str]:
    """Return the variables of functions (one entry for each function and name) that only say how they were got."""
    vague = []
    for path, tree in trees.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                vague += [f"{path}: {function.name}: {name}" for name in sorted(own_names(function) & VAGUE)]
    return vague


def own_names(function: ast.AST) -> set[str]:
    """Return the names that a function binds itself, without those of functions inside it."""
    names: set[str] = set()
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.add(child.id)
        names |= own_names(child)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_are_sentences(package: str) -> None:
    assert bad_first_words(modules(package)) == []


def wrong_arguments(trees: dict[str, ast.Module]) -> list[str]:
    """Return the names under "Args:" that are no parameters of the function, nor fields of the class."""
    wrong = []
    for path, tree in trees.items():
        for node, text in documented(tree):
            block = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
            names = re.findall(r"^    (\w+):", block.group(1), re.MULTILINE) if block else []
            if not isinstance(node, ast.Module):
                wrong += [f"{path}: {node.name}: {name}" for name in names if name not in parameters(node)]
    return wrong


def parameters(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    if not isinstance(node, ast.ClassDef):
        return {child.arg for child in ast.walk(node.args) if isinstance(child, ast.arg)}
    fields = {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    starts = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    return fields.union(*map(parameters, starts))


@pytest.mark.parametrize("package", PACKAGES)
def test_documented_arguments_exist(package: str) -> None:
    assert wrong_arguments(modules(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_prepositions_are_plain(package: str) -> None:
    assert bad_prepositions(modules(package)) == []


def comments_without_a_noun(sources: dict[str, str]) -> list[str]:
    """Return the comments that begin with "of": of what, a reader has to guess."""
    return [
        f"{path}:{token.start[0]}: {token.string}"
        for path, source in sources.items()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and COMMENT_OF_NOTHING.match(token.string) and begins(token)
    ]


def begins(token: tokenize.TokenInfo) -> bool:
    """Return whether a comment comes after code, in contrast to the second line of another comment."""
    return bool(token.line[: token.start[1]].strip())


@pytest.mark.parametrize("package", PACKAGES)
def test_comments_name_what_they_are_about(package: str) -> None:
    paths = modules(package)
    assert comments_without_a_noun({path: (ROOT / path).read_text() for path in paths}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_locals_are_nouns(package: str) -> None:
    assert vague_locals(modules(package)) == []


def test_bad_words_would_be_seen() -> None:
    text = '''
def a() -> int:
    """The sum."""
    found = 1
    def inner() -> None:
        seen = 2
    return found
def b() -> None:
    """What comes behind it."""
    raise ValueError(f"x {1} in front of y")
class C:
    """The facts.

    Args:
        x: a field.
        y: no field.
    """
    x: int
    @property
    def d(self) -> int:
        """The number."""
'''
    trees = {"m": ast.parse(text)}
    assert comments_without_a_noun({"m": "x = 1  # of y\n# one\n# of two\n"}) == ["m:1: # of y"]
    assert bad_first_words(trees) == ["m: The sum.", "m: What comes behind it."]
    assert len(bad_prepositions(trees)) == 2
    assert wrong_arguments(trees) == ["m: C: y"]
    assert vague_locals(trees) == ["m: a: found", "m: inner: seen"]
