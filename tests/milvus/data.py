"""What a Milvus holds in this test: collections of every kind whose metadata the migration touches, and questions to them.

    python data.py write PORT   writes it all into an empty Milvus (2.1)
    python data.py add PORT     writes a collection more
    python data.py read PORT    answers, as JSON: what there is, what is loaded, who is near; or why there is no answer

Numbers come from a seeded generator, so that two runs write the same rows.
"""

import json
import sys
import time
from dataclasses import dataclass

import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, MilvusException, connections, utility
from pymilvus.client.types import IndexState
from pymilvus.grpc_gen import milvus_pb2

DIMENSION = 16
# Milvus builds no index on a segment below 1024 rows; each of two shards gets about half of the rows.
ROWS = 3000
FEW = 200
NEIGHBOURS = 10
QUERIES = 4
DEADLINE = 120
VECTOR = "vector"
ID = "id"


@dataclass(frozen=True)
class Kind:
    """A collection of this test."""

    name: str
    index: dict | None
    search: dict
    binary: bool = False
    auto_id: bool = False
    index_name: str = ""
    partitions: tuple = ()
    rows: int = ROWS
    # "collection", "partitions" (the first two) or nothing
    loaded: str = ""
    scalars: bool = False
    # 2.2 answers for ANNOY with the root of what 2.1 answers: neighbours alone are compared.
    distances: bool = True


def float_index(kind, metric="L2", **params):
    return {"index_type": kind, "metric_type": metric, "params": params}


KINDS = [
    # All lists are searched: exact, so that a compaction between two versions cannot change an answer.
    Kind("flat_lists", float_index("IVF_FLAT", nlist=16), {"nprobe": 16}, partitions=("p1", "p2"), loaded="collection"),
    Kind("quantized", float_index("IVF_SQ8", metric="IP", nlist=16), {"nprobe": 4}, auto_id=True),
    Kind("product_quantized", float_index("IVF_PQ", nlist=16, m=4, nbits=8), {"nprobe": 8}),
    Kind("graph", float_index("HNSW", M=8, efConstruction=64), {"ef": 32}, index_name="my_graph",
         partitions=("p1", "p2", "p3"), loaded="partitions"),
    Kind("trees", float_index("ANNOY", n_trees=8), {"search_k": 200}, distances=False),
    Kind("bits", float_index("BIN_IVF_FLAT", metric="HAMMING", nlist=16), {"nprobe": 16}, binary=True),
    Kind("small", float_index("IVF_FLAT", nlist=16), {"nprobe": 16}, rows=FEW, loaded="collection"),
    Kind("rebuilt", float_index("HNSW", M=16, efConstruction=80), {"ef": 64}),
    Kind("scalars", float_index("IVF_FLAT", nlist=2097152 // 65536), {"nprobe": 32}, scalars=True),
    Kind("empty", float_index("IVF_FLAT", nlist=16), {"nprobe": 16}, rows=0),
    Kind("bare", None, {}, rows=FEW),
]
DROPPED = Kind("dropped", float_index("IVF_FLAT", nlist=16), {"nprobe": 16})
ADDED = Kind("added", float_index("IVF_FLAT", nlist=16), {"nprobe": 16}, rows=FEW)
ALIASES = {"with_ts_1": "flat_lists", "moved": "graph"}


def handler():
    return connections._fetch_handler("default")


def progress(text):
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", file=sys.stderr, flush=True)


# --- writing ---------------------------------------------------------------------------------------------------------------


def create(kind):
    fields = [
        FieldSchema(ID, DataType.INT64, is_primary=True, auto_id=kind.auto_id),
        FieldSchema(VECTOR, DataType.BINARY_VECTOR if kind.binary else DataType.FLOAT_VECTOR, dim=DIMENSION),
    ]
    if kind.scalars:
        fields += [FieldSchema("word", DataType.VARCHAR, max_length=64), FieldSchema("weight", DataType.DOUBLE)]
    collection = Collection(kind.name, CollectionSchema(fields, description=f"of kind {kind.name}"), shards_num=2)
    for partition in kind.partitions:
        collection.create_partition(partition)
    return collection


def vectors(kind, rows, numbers):
    if kind.binary:
        return [bytes(row) for row in numbers.integers(0, 256, (rows, DIMENSION // 8), dtype=np.uint8)]
    return numbers.random((rows, DIMENSION), dtype=np.float32).tolist()


def insert(kind, rows, numbers, first=0, partition=None):
    columns = [] if kind.auto_id else [list(range(first, first + rows))]
    columns.append(vectors(kind, rows, numbers))
    if kind.scalars:
        columns += [[f"word {number % 7}" for number in range(rows)], numbers.random(rows).tolist()]
    Collection(kind.name).insert(columns, partition_name=partition)


def fill(kind, numbers):
    if kind.rows == 0:
        return
    places = [None, *kind.partitions]
    for place, partition in enumerate(places):
        insert(kind, kind.rows, numbers, first=place * kind.rows, partition=partition)


def flush(names):
    handler().flush(names)


def wait_for_index(name, index_name):
    # The state, not the count of indexed rows: that one leaves out small segments and, on 2.1, indexes with their own names.
    wait(f"the index of {name}", lambda: handler().get_index_state(name, index_name)[0] == IndexState.Finished)


def wait(what, condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {DEADLINE} s in vain for {what}")
        time.sleep(0.05)


def write():
    numbers = np.random.default_rng(20221220)
    kinds = [*KINDS, DROPPED]
    for kind in kinds:
        create(kind)
        fill(kind, numbers)
    progress("inserted")
    Collection("flat_lists").create_partition("gone")
    insert(KINDS[0], FEW, numbers, first=100_000, partition="gone")
    with_rows = [kind.name for kind in kinds if kind.rows]
    flush(with_rows)
    # Second segments: small ones, which get no index files, and rows deleted from a sealed segment.
    insert(KINDS[0], FEW, numbers, first=50_000)
    Collection("flat_lists").delete(f"{ID} in [0, 1, 2, 3, 4, 5, 6, 7]")
    flush(["flat_lists"])
    progress("flushed")
    Collection("rebuilt").create_index(VECTOR, float_index("IVF_FLAT", nlist=8))
    Collection("rebuilt").drop_index()
    for kind in kinds:
        if kind.index:
            Collection(kind.name).create_index(VECTOR, kind.index, **({"index_name": kind.index_name} if kind.index_name else {}))
    Collection("scalars").create_index("word", {"index_type": "Trie"}, index_name="words")
    for kind in kinds:
        if kind.index and kind.rows:
            wait_for_index(kind.name, kind.index_name or "_default_idx")
    wait_for_index("scalars", "words")
    progress("indexed")
    Collection("flat_lists").drop_partition("gone")
    utility.drop_collection(DROPPED.name)
    utility.create_alias("flat_lists", "with_ts_1")
    utility.create_alias("flat_lists", "moved")
    utility.alter_alias("graph", "moved")
    utility.create_alias("small", "lost")
    utility.drop_alias("lost")
    utility.create_credential("reader", "a-password")
    for kind in KINDS:
        if kind.loaded:
            load(kind)
    progress("loaded")


def add():
    create(ADDED)
    fill(ADDED, np.random.default_rng(1))
    flush([ADDED.name])


# --- reading ---------------------------------------------------------------------------------------------------------------


def load(kind):
    collection = Collection(kind.name)
    if kind.loaded == "partitions":
        collection.load(partition_names=list(kind.partitions[:2]), timeout=DEADLINE)
    else:
        collection.load(timeout=DEADLINE)


def loaded():
    """Loaded collections with, for those of which only partitions are loaded, their names; in percent."""
    stub = handler()._stub
    answer = stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(type=milvus_pb2.ShowType.InMemory))
    found = {}
    for name, percentage in zip(answer.collection_names, answer.inMemory_percentages):
        request = milvus_pb2.ShowPartitionsRequest(collection_name=name, type=milvus_pb2.ShowType.InMemory)
        partitions = stub.ShowPartitions(request)
        found[name] = {"percent": percentage, "partitions": sorted(partitions.partition_names)}
    return found


def is_whole(name, partitions):
    """Whether all rows of what is loaded are on query nodes. A server that has just started says 100 % before that."""
    rows = sum(Collection(name).partition(partition).num_entities for partition in partitions)
    return sum(segment.num_rows for segment in utility.get_query_segment_info(name)) == rows


def is_settled():
    return all(
        state["percent"] == 100 and is_whole(name, state["partitions"]) for name, state in loaded().items()
    )


def neighbours(kind, name):
    numbers = np.random.default_rng(7)
    queries = vectors(kind, QUERIES, numbers)
    metric = kind.index["metric_type"]
    places = list(kind.partitions[:2]) if kind.loaded == "partitions" else None
    expression = 'word in ["word 1", "word 4"] and weight < 0.5' if kind.scalars else None
    answers = Collection(name).search(
        queries, VECTOR, {"metric_type": metric, "params": kind.search}, NEIGHBOURS, expr=expression, partition_names=places,
        consistency_level="Strong", timeout=DEADLINE,
    )
    if not kind.distances:
        return [list(answer.ids) for answer in answers]
    return [without_ties(zip(answer.distances, answer.ids)) for answer in answers]


def without_ties(found):
    """Neighbours by distance, without the ids of the farthest: others may be as far (Hamming distances and quantized ones often
    are), and which of them are told is chance."""
    found = sorted(found)
    farthest = max((distance for distance, _ in found), default=None)
    return [(distance, None if distance == farthest else id) for distance, id in found]


def indexes(collection):
    found = []
    for index in collection.indexes:
        found.append({"field": index.field_name, "params": dict(index.params)})
    return sorted(found, key=lambda index: index["field"])


def describe(name):
    collection = Collection(name)
    return {
        "description": collection.description,
        "fields": [field.name for field in collection.schema.fields],
        "rows": collection.num_entities,
        "partitions": {part.name: part.num_entities for part in sorted(collection.partitions, key=lambda part: part.name)},
        "indexes": indexes(collection),
    }


def answers_of(kind, name, left_loaded):
    if name in left_loaded or name in ALIASES:
        return neighbours(kind, name)
    # What was not left loaded is loaded for the question only.
    load(kind)
    try:
        return neighbours(kind, name)
    finally:
        Collection(name).release()


def or_error(ask, *args):
    try:
        return ask(*args)
    except MilvusException as error:
        return str(error)


def read():
    wait("what was left loaded", is_settled)
    left_loaded = loaded()
    answers = {
        "collections": {name: describe(name) for name in sorted(utility.list_collections())},
        "loaded": left_loaded,
        "users": sorted(utility.list_cred_users()),
        "neighbours": {},
        "rows": or_error(some_rows),
    }
    by_name = {kind.name: kind for kind in KINDS}
    for name, kind in by_name.items():
        if kind.index:
            answers["neighbours"][name] = or_error(answers_of, kind, name, left_loaded)
    for alias, target in ALIASES.items():
        answers["neighbours"][alias] = or_error(answers_of, by_name[target], alias, left_loaded)
    progress("answered")
    return answers


def some_rows():
    """Which of the first rows are left, as some were deleted. Without vectors: asked for them, 2.1 puts what it caches in the
    place of the object when both are in local files, and nothing reads that one any more."""
    rows = Collection("flat_lists").query(f"{ID} in {list(range(12))}", output_fields=[ID], consistency_level="Strong")
    return sorted(row[ID] for row in rows)


BEGIN = time.monotonic()


def main(verb, port):
    connections.connect(host="127.0.0.1", port=port)
    if verb == "write":
        write()
    elif verb == "read":
        print(json.dumps(read(), indent=1))
    elif verb == "add":
        add()
    else:
        raise SystemExit(f"{verb} is neither write nor add nor read")


main(*sys.argv[1:])
