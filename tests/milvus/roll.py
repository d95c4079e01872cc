"""Data in a distributed Milvus, a load on it, and what became of it: for tests of rolling upgrades.

    python roll.py write ADDRESS REPLICAS     writes, indexes and loads the collections; ends when searches answer right
    python roll.py load ADDRESS FILE          searches and inserts until it is ended; writes one JSON object a request to FILE
    python roll.py check ADDRESS FILE         fails unless all is there: what was written, and what FILE says was inserted

"searched" has fixed rows, and every search has one right answer, which is computed here. "inserted" grows.
"""

import json
import sys
import threading
import time

import numpy as np
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections

DIMENSION = 32
ROWS = 20_000
BATCH = 2_000
SHARDS = 2
# Answers of this length: with two shards, hardly any is right if one of them is missing.
LIMIT = 5
INDEX = {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 16, "efConstruction": 200}}
PARAMETERS = {"metric_type": "L2", "params": {"ef": 500}}
VECTORS = np.random.default_rng(42).random((ROWS, DIMENSION), dtype=np.float32)
# Rows that are searched for, one after the other.
QUERIES = range(0, ROWS, ROWS // 40)
SEARCH_EVERY = 0.05
INSERT_EVERY = 0.25
INSERT_ROWS = 10
# Of one request, in whole seconds: the client takes only those as a limit on its retries.
TIMEOUT = 2
RIGHT_IN_A_ROW = 100
PATIENCE = 180


def schema():
    fields = [FieldSchema("id", DataType.INT64, is_primary=True), FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)]
    return CollectionSchema(fields)


def right_answers():
    answers = {}
    for row in QUERIES:
        distances = ((VECTORS - VECTORS[row]) ** 2).sum(axis=1)
        answers[row] = np.argsort(distances, kind="stable")[:LIMIT].tolist()
    return answers


def flush(name):
    connections._fetch_handler("default").flush([name], timeout=PATIENCE)


def write(replicas):
    searched = Collection("searched", schema(), shards_num=SHARDS)
    for first in range(0, ROWS, BATCH):
        searched.insert([list(range(first, first + BATCH)), VECTORS[first:first + BATCH].tolist()])
        if first == ROWS // 2:
            # Segments of their own for both halves.
            flush("searched")
    flush("searched")
    searched.create_index("vector", INDEX, timeout=PATIENCE)
    searched.load(replica_number=replicas, timeout=PATIENCE)
    Collection("inserted", schema(), shards_num=SHARDS)
    answers, in_a_row, deadline = right_answers(), 0, time.monotonic() + PATIENCE
    queries = list(QUERIES)
    while in_a_row < RIGHT_IN_A_ROW:
        row = queries[in_a_row % len(queries)]
        outcome = judged(lambda: search(searched, row), lambda ids: grade(ids, answers[row]))
        in_a_row = in_a_row + 1 if outcome["result"] == "right" else 0
        if time.monotonic() > deadline:
            sys.exit(f"searches do not answer right: {outcome}")


def search(collection, row, timeout=TIMEOUT):
    hits = collection.search([VECTORS[row].tolist()], "vector", PARAMETERS, LIMIT, timeout=timeout, consistency_level="Bounded")
    return list(hits[0].ids)


def grade(ids, right):
    if ids == right:
        return "right"
    return "empty" if not ids else "partial"


def judged(request, grade):
    """What came of a request, with its times in seconds; `at` is of the machine's clock, when it began."""
    at, begin = time.time(), time.monotonic()
    outcome = {"at": at}
    try:
        answer = request()
        outcome["result"] = grade(answer)
        if outcome["result"] != "right":
            outcome["detail"] = str(answer)
    except Exception as error:
        outcome.update(result="failed", detail=str(error)[:300])
    outcome["took"] = time.monotonic() - begin
    return outcome


class Recorder:
    def __init__(self, path):
        self.file, self.lock = open(path, "w", buffering=1), threading.Lock()

    def write(self, what, outcome):
        with self.lock:
            self.file.write(json.dumps({"what": what, **outcome}) + "\n")


def every(seconds, what, recorder, request):
    """Makes requests at these times. One that takes longer delays the next, and none is made up for."""
    due = time.monotonic()
    while True:
        recorder.write(what, request())
        due = max(due + seconds, time.monotonic())
        time.sleep(max(0, due - time.monotonic()))


def load(path):
    recorder, answers = Recorder(path), right_answers()
    searched, inserted = Collection("searched"), Collection("inserted", using="inserts")
    queries, next_query, next_id = list(QUERIES), 0, 0

    def one_search():
        nonlocal next_query
        row = queries[next_query % len(queries)]
        next_query += 1
        return judged(lambda: search(searched, row), lambda ids: grade(ids, answers[row]))

    def one_insert():
        nonlocal next_id
        ids = list(range(next_id, next_id + INSERT_ROWS))
        # Not used again: a request that failed may have been carried out.
        next_id += INSERT_ROWS
        vectors = [VECTORS[one % ROWS].tolist() for one in ids]
        outcome = judged(lambda: inserted.insert([ids, vectors], timeout=TIMEOUT), lambda _: "right")
        return {**outcome, "first": ids[0]}

    threads = [
        threading.Thread(target=every, args=(SEARCH_EVERY, "search", recorder, one_search), daemon=True),
        threading.Thread(target=every, args=(INSERT_EVERY, "insert", recorder, one_insert), daemon=True),
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


def ids_between(collection, first, end):
    rows = collection.query(f"id >= {first} and id < {end}", output_fields=["id"], consistency_level="Strong", timeout=PATIENCE)
    return {row["id"] for row in rows}


def missing(collection, wanted):
    last = max(wanted, default=-1)
    found = set()
    for first in range(0, last + 1, BATCH):
        found |= ids_between(collection, first, first + BATCH)
    return sorted(wanted - found)


def check(path):
    answers = right_answers()
    searched = Collection("searched")
    lost = missing(searched, set(range(ROWS)))
    # Whether the data is right, not how fast a busy machine answers.
    wrong = [row for row in QUERIES if search(searched, row, PATIENCE) != answers[row]]
    with open(path) as file:
        inserts = [line for line in map(json.loads, file) if line["what"] == "insert" and line["result"] == "right"]
    acknowledged = {one for line in inserts for one in range(line["first"], line["first"] + INSERT_ROWS)}
    inserted = Collection("inserted")
    flush("inserted")
    inserted.create_index("vector", INDEX, timeout=PATIENCE)
    inserted.load(timeout=PATIENCE)
    lost_inserts = missing(inserted, acknowledged)
    print(json.dumps({"rows": ROWS, "inserted": len(acknowledged)}))
    if lost or wrong or lost_inserts:
        sys.exit(f"lost {len(lost)} rows {lost[:5]}, {len(lost_inserts)} inserted rows {lost_inserts[:5]}; wrong answers: {wrong}")


def main(verb, address, argument):
    host, port = address.rsplit(":", 1)
    for alias in ("default", "inserts"):
        connections.connect(alias, host=host, port=port)
    if verb == "write":
        write(int(argument))
    elif verb == "load":
        load(argument)
    elif verb == "check":
        check(argument)
    else:
        raise SystemExit(f"{verb} is none of the verbs")


main(*sys.argv[1:])
