"""python milvus.py write|read PORT: a small collection, loaded; its rows and the nearest of them."""

import json
import sys
import time

from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, MilvusException, connections, utility

DIMENSION = 4
ROWS = 2000


def write():
    fields = [FieldSchema("id", DataType.INT64, is_primary=True), FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)]
    collection = Collection("numbers", CollectionSchema(fields), shards_num=1)
    collection.insert([list(range(ROWS)), [[float(number)] * DIMENSION for number in range(ROWS)]])
    # Asking for it writes everything out first.
    assert collection.num_entities == ROWS
    collection.create_index("vector", {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 4}})
    collection.load()


def is_whole():
    return sum(segment.num_rows for segment in utility.get_query_segment_info("numbers")) == ROWS


def search(collection, end):
    parameters = {"metric_type": "L2", "params": {"nprobe": 4}}
    while True:
        try:
            return collection.search([[7.0] * DIMENSION], "vector", parameters, 3, consistency_level="Strong")[0]
        except MilvusException as error:
            # A query coordinator that has just started may list segments before it knows their collection.
            if "not loaded" not in str(error) or time.monotonic() >= end:
                raise
            time.sleep(0.05)


def read():
    # A server that has just started answers before its rows are loaded.
    end = time.monotonic() + 60
    while not is_whole() and time.monotonic() < end:
        time.sleep(0.05)
    collection = Collection("numbers")
    answer = search(collection, end)
    print(json.dumps({"rows": collection.num_entities, "nearest": answer.ids[0], "distances": list(answer.distances)}))


connections.connect(host="127.0.0.1", port=sys.argv[2])
{"write": write, "read": read}[sys.argv[1]]()
