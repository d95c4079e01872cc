//! Stands in for the registry's `tonic-prost-build`, which runs `protoc`, a program that cargo does
//! not bring. `[patch.crates-io]` in the workspace's `Cargo.toml` puts it in the place of that crate,
//! above all for the build script of `etcd-client`. Here protox, which is written in Rust, reads the
//! `.proto` files; `prost-build` and `tonic-build` generate the code, as they do for that crate.
//!
//! It offers what the build scripts of this workspace and its dependencies call, and no more: a build
//! script that needs another setting does not compile. (It cannot wrap the registry's crate: cargo
//! allows a patch and what it replaces only in different major versions.)

use std::{io, path::Path};

use prost_build::{Config, Method, Service, ServiceGenerator};
use tonic_build::{CodeGenBuilder, manual};

/// Settings of a build script.
pub struct Builder {
    build_server: bool,
}

/// The default settings: messages, clients and servers.
#[must_use]
pub fn configure() -> Builder {
    Builder { build_server: true }
}

impl Builder {
    /// Whether servers are generated.
    #[must_use]
    pub fn build_server(self, enable: bool) -> Self {
        Self {
            build_server: enable,
        }
    }

    /// Reads `.proto` files and writes the generated code to `OUT_DIR`. Imports are searched in
    /// `includes`; the files of `google/protobuf` are built in.
    ///
    /// # Errors
    /// If a file or one of its imports cannot be read or is invalid, or the code cannot be written.
    pub fn compile_protos(
        self,
        protos: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> io::Result<()> {
        let files = protox::compile(protos, includes).map_err(io::Error::other)?;
        Config::new()
            .type_attribute(".", "#[allow(clippy::all)]")
            .service_generator(Box::new(self))
            .compile_fds(files)
    }
}

impl ServiceGenerator for Builder {
    fn generate(&mut self, service: Service, code: &mut String) {
        let service = Described {
            methods: service.methods.iter().map(described).collect(),
            service,
        };
        let generator = CodeGenBuilder::new();
        code.push_str(&generator.generate_client(&service, "super").to_string());
        if self.build_server {
            code.push_str(&generator.generate_server(&service, "super").to_string());
        }
    }
}

/// A service as tonic wants it: with methods that know their codec.
struct Described {
    service: Service,
    methods: Vec<manual::Method>,
}

fn described(method: &Method) -> manual::Method {
    // The client is in a separate module, next to the messages.
    let mut described = manual::Method::builder()
        .name(&method.name)
        .route_name(&method.proto_name)
        .input_type(format!("super::{}", method.input_type))
        .output_type(format!("super::{}", method.output_type))
        .codec_path("tonic_prost::ProstCodec");
    if method.client_streaming {
        described = described.client_streaming();
    }
    if method.server_streaming {
        described = described.server_streaming();
    }
    described.build()
}

impl tonic_build::Service for Described {
    type Comment = String;
    type Method = manual::Method;

    fn name(&self) -> &str {
        &self.service.name
    }

    fn package(&self) -> &str {
        &self.service.package
    }

    fn identifier(&self) -> &str {
        &self.service.proto_name
    }

    fn methods(&self) -> &[Self::Method] {
        &self.methods
    }

    fn comment(&self) -> &[Self::Comment] {
        &self.service.comments.leading
    }
}
