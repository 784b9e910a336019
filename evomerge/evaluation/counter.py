"""The counter-check's tests: the same tests with their asserts turned round.

An honest program that passes its tests fails these at the first assert. A program that passes both has not been
tested at all: it has kept the asserts from being executed, or forged the report. So has one whose results equal
anything (`==` against a value made up here is true).

An assert is turned round if its condition contains a call (one without says nothing about the program) and no `try`
that could catch its error stands around it. The check is made only if one of them is sure to be executed: it stands at
the top level, or in the straight course of a function that is called there, as HumanEval's `check(candidate)` is.
Knows nothing about how programs are run.
"""

import ast
import secrets
from collections.abc import Iterator
from functools import lru_cache


@lru_cache(maxsize=65536)
def turned_round(tests: str) -> str | None:
    """Return the tests with their asserts turned round, None if that would tell nothing about a program."""
    try:
        tree = ast.parse(tests)
        turner = _Turner()
        turned = turner.visit(tree)
        if not any(statement in turner.turned for statement in _certain(tree)):
            return None
        return ast.unparse(ast.fix_missing_locations(turned))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class _Turner(ast.NodeTransformer):
    """Turns asserts round, in place."""

    def __init__(self) -> None:
        self.turned: set[ast.Assert] = set()

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        if any(isinstance(part, ast.Call) for part in ast.walk(node.test)):
            node.test = _opposite(node.test)
            self.turned.add(node)
        return node

    def visit_Try(self, node: ast.Try) -> ast.Try:
        """Leave what is tried as it is: an error in it would be caught. Turn what is not tried."""
        if not node.handlers:
            node.body = [self.visit(statement) for statement in node.body]
        for part in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(part)
        return node

    def visit_TryStar(self, node: ast.TryStar) -> ast.TryStar:
        return node

    def visit_With(self, node: ast.With) -> ast.With:
        """Leave it: it may be one that catches errors."""
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AsyncWith:
        return node


def _opposite(test: ast.expr) -> ast.expr:
    """Return the opposite of a condition; of an equation also true if its left side equals a value made up here."""
    opposite = ast.UnaryOp(ast.Not(), test)
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return opposite
    stranger = ast.Tuple([ast.Constant(secrets.token_hex(8))], ast.Load())
    return ast.BoolOp(ast.Or(), [opposite, ast.Compare(test.left, [ast.Eq()], [stranger])])


def _certain(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that are sure to be executed if the tests come to their end."""
    functions: dict[str, ast.FunctionDef] = {}
    waiting = list(reversed(tree.body))
    while waiting:
        statement = waiting.pop()
        yield statement
        if isinstance(statement, ast.FunctionDef) and not _yields(statement):
            functions[statement.name] = statement
        elif isinstance(statement, ast.For) and _has_entries(statement.iter):
            waiting += reversed(_until_it_may_leave(statement.body))
        elif isinstance(statement, ast.Expr) and (called := functions.pop(_name_called(statement.value), None)):
            waiting += reversed(_until_it_may_leave(called.body))


def _name_called(value: ast.expr) -> str:
    """Return the name that an expression calls, "" if it calls none."""
    return value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""


def _until_it_may_leave(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements before the first that may return, break or go on with the next."""
    for place, statement in enumerate(body):
        if any(isinstance(part, ast.Return | ast.Break | ast.Continue) for part in ast.walk(statement)):
            return body[:place]
    return body


def _yields(function: ast.FunctionDef) -> bool:
    """Say whether a function is a generator, whose body a call does not execute; or another one may stand for it."""
    return bool(function.decorator_list) or any(
        isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(function)
    )


def _has_entries(iterable: ast.expr) -> bool:
    """Say whether a loop over this is sure to be entered: over a display or a text that is not empty."""
    if isinstance(iterable, ast.List | ast.Tuple | ast.Set):
        return any(not isinstance(entry, ast.Starred) for entry in iterable.elts)
    return isinstance(iterable, ast.Constant) and bool(iterable.value)
