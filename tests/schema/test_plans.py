"""Plans answer as graphql-core answers: whatever is asked, whatever fails, in the same order."""

import asyncio
import gc
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import ExecutionResult, OperationDefinitionNode, execute, get_introspection_query, parse
from graphql.execution.values import VariableValues
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis_graphql import mutations, queries
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.api import schema as ours
from schema.executor import PlannedExecutor
from schema.plan import MAX_FIELDS, Plan, Run
from tests.schema import zoo
from tests.schema.everything import document, root_fields

ZOO = zoo.schema.as_str()
_THEIRS = "Exception ignored in. <coroutine object (GraphQLCoreConverter|Executor)"
pytestmark = pytest.mark.filterwarnings(f"ignore:{_THEIRS}:pytest.PytestUnraisableExceptionWarning")
"""Graphql-core cancels what waits beside an error, even before it began; a plan does not."""


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    """What graphql-core left behind is not to be complained of in the midst of other tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


Executor = type[StrawberryGraphQLCoreExecutionContext]


async def answer(executor: Executor, text: str, variables: dict[str, Any] | None) -> str:
    """The zoo's answer: data and errors, in their order."""
    result: Any = execute(
        zoo.schema._schema,
        parse(text),
        context_value=[],
        variable_values=variables,
        executor_class=executor,
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
    )
    if not isinstance(result, ExecutionResult):
        result = await result
    left = asyncio.all_tasks() - {asyncio.current_task()}  # what waited beside an error
    await asyncio.gather(*left, return_exceptions=True)
    return json.dumps([result.data, [error.formatted for error in result.errors or ()]], default=str)


def both(text: str, variables: dict[str, Any] | None = None) -> tuple[str, str]:
    """The answers of a plan and of graphql-core."""
    loop = asyncio.new_event_loop()
    try:
        planned = loop.run_until_complete(answer(PlannedExecutor, text, variables))
        return planned, loop.run_until_complete(answer(StrawberryGraphQLCoreExecutionContext, text, variables))
    finally:
        loop.close()


def nulls(told: str) -> tuple[Any, dict[str, Any]]:
    """The data, and the errors by the nulls that they explain: of several, which are told depends on who is first."""
    data, errors = json.loads(told)
    explained: dict[str, Any] = {}
    for error in errors:
        value, path = data, []
        for step in error["path"]:
            if value is None:
                break
            value = value[step]
            path.append(step)
        assert value is None, error
        explained[str(path)] = error if str(path) not in explained else "several"
    return data, explained


@settings(max_examples=300, deadline=None)
@given(queries(ZOO))
def test_a_query_is_answered_as_graphql_core_answers_it(text: str) -> None:
    planned, reference = both(text)
    data, ours_explained = nulls(planned)
    their_data, theirs_explained = nulls(reference)
    assert json.dumps(data) == json.dumps(their_data)
    assert ours_explained.keys() == theirs_explained.keys()
    for place, error in ours_explained.items():
        theirs = theirs_explained[place]
        assert error == theirs or "several" in (error, theirs) or error["path"] != theirs["path"]


@settings(max_examples=100, deadline=None)
@given(mutations(ZOO))
def test_a_mutation_is_answered_as_graphql_core_answers_it(text: str) -> None:
    planned, reference = both(text)
    assert planned == reference


FIELDS = """
  title nothing words later atOnce(times: 1) pet { __typename ... on Dog { barks } ... on Named { name } }
"""
DOCUMENTS = {
    "fields that are well": f"{{ keeper {{ {FIELDS} }} }}",
    "fields that fail beside others": "{ keeper { title failsPerhaps failsLaterPerhaps later wrongPerhaps noList } }",
    "an error that goes up": "{ keeper { title later surelyAnother { later fails } } sureKeeper { title } }",
    "an error that goes up to the data": "{ sureKeeper { surelyAnother { failsLater } } keeper { title } }",
    "errors in lists": "{ keeper { others { title failsLater } sureOthers { later wrong } numbers words } }",
    "one of a list that waits fails": "{ keeper { sureOthers { nothingPromised } others { another { fails } } } }",
    "a type outside the union": "{ keeper { strange { ... on Cat { name } } named { name ... on Cat { lives } } } }",
    "an error as an answer": "{ keeper { answersWithAnError } }",
    "fields in several places": "{ keeper { a: title title ...F } ...Q } "
    "fragment F on Keeper { title another { title } } "
    "fragment Q on Query { keeper { another { later } a: title } }",
    "refused by the resolver": '{ taken(name: "x") { __typename ... on Named { name } } free: taken(name: "") '
    "{ ... on Cat { lives mother { name mother { name } } } } }",
    "refused by an argument": "{ pet(color: GREEN) { ... on Cat { color } } }",
    "arguments left out": "{ pet { ... on Cat { color } } }",
    "no field that there is": "{ keeper { titel } }",
    "inputs": '{ wished(wish: { name: "a", inner: { number: 1 }, inners: { number: 2 }, perhaps: null }, '
    'one: { name: "x" }, chain: { number: 1, rest: { number: 2 } }) }',
    "introspection": get_introspection_query(),
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_is_answered_as_graphql_core_answers_it(text: str) -> None:
    planned, reference = both(text)
    assert planned == reference


def test_the_fields_of_a_mutation_come_one_after_the_other() -> None:
    text = 'mutation { a: write(word: "a") b: write(word: "b", fails: true) c: writeAtOnce(word: "c") }'
    planned, reference = both(text)
    assert planned == reference
    assert json.loads(planned)[0] == {"a": ["a"], "b": None, "c": ["a", "b", "c"]}


@pytest.mark.parametrize("shown", [True, False, None])
@pytest.mark.parametrize("hidden", [True, False])
def test_what_is_skipped_and_included_is_decided_with_each_request(shown: bool | None, hidden: bool) -> None:
    text = """
      query($shown: Boolean! = true, $hidden: Boolean!) {
        keeper @include(if: $shown) { title @skip(if: $hidden) later ...F @include(if: $shown) }
        pet { ... on Cat @skip(if: $hidden) { name } __typename }
      }
      fragment F on Keeper { another { title @include(if: $hidden) depth: atOnce } }
    """
    given: dict[str, Any] = {"hidden": hidden} if shown is None else {"hidden": hidden, "shown": shown}
    planned, reference = both(text, given)
    assert planned == reference


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Some of the fields, and sometimes others or nothing of the kind."""
    return st.fixed_dictionaries({}, optional={**fields, "unknown": ANYTHING}) | ANYTHING


ANYTHING = (
    st.none() | st.booleans() | st.integers(-(2**33), 2**33) | st.floats() | st.sampled_from(["RED", "a", "", "7"])
)
NUMBER = st.integers(0, 9) | ANYTHING
COLOR = st.sampled_from(["RED", "BLUE", "GREEN"]) | ANYTHING
INNER = _some(number=NUMBER, color=COLOR, words=st.lists(ANYTHING) | ANYTHING)
WISH = _some(name=st.just("n"), inner=INNER, inners=st.lists(INNER) | INNER, weight=NUMBER, perhaps=NUMBER)
WELL = st.fixed_dictionaries({"name": st.just("n")}, optional={"inner": st.just({"number": 1}), "perhaps": st.none()})
USES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "$it: Int": ('{ keeper { atOnce(times: $it) } taken(name: "x", times: $it) { __typename } }', NUMBER),
    "$it: Int!": ("{ keeper { atOnce(times: $it) } }", NUMBER),
    "$it: Int = 3": ('{ keeper { atOnce(times: $it) } wished(wish: { name: "n", weight: $it }) }', NUMBER),
    "$it: Color": ("{ keeper { atOnce(color: $it) } pet(color: $it) { ... on Cat { color } } }", COLOR),
    "$it: Color = RED": ("{ pet(color: $it) { ... on Cat { color } } }", COLOR),
    "$it: [String!]!": ("{ nameds(names: $it) { name } }", st.lists(st.sampled_from(["Ann", "Zoe"]) | ANYTHING)),
    "$it: String!": ('{ nameds(names: [$it, "Ann"]) { name } }', ANYTHING),
    "$it: Wish!": ("{ wished(wish: $it) }", WISH | WELL),
    "$it: [Inner!]": ('{ wished(wish: { name: "n", inners: $it }) }', st.lists(INNER) | INNER),
    "$it: OneWish": ('{ wished(wish: { name: "n" }, one: $it) }', _some(name=st.just("n") | ANYTHING, number=NUMBER)),
    "$it: Chain": (
        '{ wished(wish: { name: "n" }, chain: $it) }',
        st.recursive(NUMBER, lambda rest: st.fixed_dictionaries({"number": NUMBER}, optional={"rest": rest})),
    ),
}


@pytest.mark.parametrize("declared", USES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_variable_is_read_as_graphql_core_reads_it(declared: str, data: st.DataObject) -> None:
    used, values = USES[declared]
    given = data.draw(st.fixed_dictionaries({}, optional={"it": values}))
    planned, reference = both(f"query({declared}) {used}", given)
    assert planned == reference


@pytest.mark.parametrize("operation", ["Query", "Mutation", "Subscription"])
def test_nothing_that_we_serve_is_left_to_graphql_core(operation: str) -> None:
    for name, field in root_fields(operation).items():
        parsed = parse(document(operation, name, list(field.args), depth=2))
        [definition] = parsed.definitions
        assert isinstance(definition, OperationDefinitionNode)
        Plan(ours._schema, definition, {}, VariableValues({}, {}))  # raises Unplanned


def test_what_is_beyond_a_plan_is_left_to_graphql_core() -> None:
    many = " ".join(f"f{number}: atOnce" for number in range(MAX_FIELDS))
    text = f"{{ keeper {{ {many} }} }}"
    assert isinstance(PlannedExecutor.build(zoo.schema._schema, parse("{ keeper { later } }")), Run)
    assert not isinstance(PlannedExecutor.build(zoo.schema._schema, parse(text)), Run)
    planned, reference = both(text)
    assert planned == reference


async def test_two_operations_of_a_document_are_told_apart() -> None:
    parsed = parse("query A { keeper { title } } query B { keeper { later } }")
    for name, told in (("A", {"title": "keeper"}), ("B", {"later": "later"})):
        run = PlannedExecutor.build(zoo.schema._schema, parsed, None, None, {}, name)
        assert isinstance(run, Run)
        result = run.execute_operation()
        assert (result if isinstance(result, ExecutionResult) else await result).data == {"keeper": told}
    assert isinstance(PlannedExecutor.build(zoo.schema._schema, parsed), list)
