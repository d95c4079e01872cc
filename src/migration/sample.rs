//! Metadata as Milvus 2.1 writes it, of any size, from a seed: for tests and benchmarks, here and outside.
