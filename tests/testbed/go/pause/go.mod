module milvus-guard-testbed/pause

go 1.26.0
