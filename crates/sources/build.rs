//! Generates the client of Milvus from `proto/milvus.proto`.

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .build_server(false)
        .compile_protos(&["proto/milvus.proto"], &["proto"])
}
