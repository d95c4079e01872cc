"""Collections that are loaded, loaded in part, not loaded and released, on a Milvus that asks for a password or does not.

    python books.py write PORT [PASSWORD]          writes them all, and a user "guest" without any right
    python books.py load|release PORT [PASSWORD]   loads or releases the collection "books"
    python books.py thin PORT [PASSWORD]           deletes all but 50 of its rows
    python books.py fill PORT [PASSWORD]           writes these rows again, as they were
    python books.py drop PORT [PASSWORD]           drops it
    python books.py list PORT [PASSWORD]           prints the names of all collections
    python books.py few PORT                       a small collection alone, for a Milvus without databases
"""

import sys
import time

import grpc
import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility
from pymilvus.client.interceptor import header_adder_interceptor
from pymilvus.exceptions import MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2_grpc

DIMENSION = 8
ROWS = 2000
# What is left of "books" when it is thinned.
LEFT = 50
INDEX = {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 4}}
NUMBERS = np.random.default_rng(42)


def handler():
    return connections._fetch_handler("default")


def create(name, batches=1, partitions=()):
    fields = [FieldSchema("id", DataType.INT64, is_primary=True), FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)]
    collection = Collection(name, CollectionSchema(fields), shards_num=2)
    for partition in partitions:
        collection.create_partition(partition)
    first = 0
    for place in partitions or (None,):
        for _ in range(batches):
            rows = [list(range(first, first + ROWS)), NUMBERS.random((ROWS, DIMENSION), dtype=np.float32).tolist()]
            collection.insert(rows, partition_name=place)
            first += ROWS
            # Each time their own segments.
            handler().flush([name])
    collection.create_index("vector", INDEX)
    return collection


def in_database(name):
    """Makes a database and goes there. This client is older than databases."""
    make = handler()._final_channel.unary_unary(
        "/milvus.proto.milvus.MilvusService/CreateDatabase",
        # The request's field 2 is the name.
        request_serializer=lambda text: b"\x12" + bytes([len(text)]) + text.encode(),
        response_deserializer=common_pb2.Status.FromString,
    )
    status = make(name)
    assert status.error_code == 0, status
    channel = grpc.intercept_channel(handler()._final_channel, header_adder_interceptor("dbname", name))
    handler()._stub = milvus_pb2_grpc.MilvusServiceStub(channel)


def write():
    create("books", batches=3).load()
    create("drafts", partitions=("p1", "p2")).load(partition_names=["p1"])
    create("archive")
    shelf = create("shelf")
    shelf.load()
    shelf.release()
    utility.create_credential("guest", "a-password")
    in_database("shop")
    create("orders").load()


def patiently(change):
    """Makes a change of which every proxy is told. The session of a server that was ended outlives it for up to a minute, and
    whoever answers at its address now is another."""
    deadline = time.monotonic() + 150
    while True:
        try:
            return change()
        except MilvusException as error:
            if "server ID mismatch" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def thin():
    gone = ", ".join(str(row) for row in range(LEFT, 3 * ROWS))
    Collection("books").delete(f"id in [{gone}]")


def fill():
    # The first numbers of every process are those of "books".
    numbers = np.concatenate([NUMBERS.random((ROWS, DIMENSION), dtype=np.float32) for _ in range(3)])
    rows = [list(range(LEFT, 3 * ROWS)), numbers[LEFT:].tolist()]
    Collection("books").insert(rows)


def drop(name):
    # What failed when the proxies were told may be half done, and goes on by itself.
    if utility.has_collection(name):
        utility.drop_collection(name)


def main(verb, port, password=None):
    connections.connect(host="127.0.0.1", port=port, **({"user": "root", "password": password} if password else {}))
    if verb == "write":
        write()
    elif verb == "few":
        create("few").load()
    elif verb == "list":
        print(*utility.list_collections())
    elif verb == "load":
        patiently(Collection("books").load)
    elif verb == "release":
        patiently(Collection("books").release)
    elif verb == "thin":
        patiently(thin)
    elif verb == "fill":
        patiently(fill)
    elif verb == "drop":
        patiently(lambda: drop("books"))
    else:
        raise SystemExit(f"{verb} is none of the verbs")


main(*sys.argv[1:])
