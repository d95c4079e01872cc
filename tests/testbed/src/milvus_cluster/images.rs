//! Images of Milvus from its wheels, under the names in the chart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::milvus::Config;
use crate::node::BuildImage;
use crate::{Bundle, Error, MilvusVersion, Node, Program};

const BASE: &str = "localhost/milvus-base:1";
/// Tags of the config tool image in charts up to 4.0.x, and in later ones.
const CONFIG_TOOL_TAGS: [&str; 2] = ["v0.1.1", "v0.1.2"];
/// Ports in the configuration of an official image, by section.
const PORTS: [(&str, &str); 7] = [
    ("rootCoord", "53100"),
    ("queryCoord", "19531"),
    ("queryNode", "21123"),
    ("indexCoord", "31000"),
    ("indexNode", "21121"),
    ("dataCoord", "13333"),
    ("dataNode", "21124"),
];
const DOCKERFILE: &str = "\
COPY root/ /
ENV PATH=/milvus/bin:/usr/bin:/bin LD_LIBRARY_PATH=/milvus/lib
WORKDIR /milvus
ENTRYPOINT [\"/init\", \"--\"]
";

/// Builds the images of these versions and of the config tool, and loads them into the node.
pub(super) fn build(node: &Node, versions: &[MilvusVersion]) -> Result<(), Error> {
    let wheels = Bundle::Milvus.try_dir()?;
    build_config_tool(node)?;
    build_base(node, &wheels, versions)?;
    for version in versions {
        let context = node.folder("milvus-image")?;
        prepare(*version, &wheels, &context)
            .map_err(|e| Error::doing(format_args!("preparing Milvus {}", version.name()), e))?;
        let tag = format!("docker.io/milvusdb/milvus:v{}", version.name());
        node.try_build_image(&BuildImage::new(tag, &context))?;
        // Its content is now in the node's image storage.
        fs::remove_dir_all(&context).map_err(|e| Error::doing("removing a folder", e))?;
    }
    Ok(())
}

fn build_config_tool(node: &Node) -> Result<(), Error> {
    let context = node.folder("config-tool-image")?;
    let failed = |e: io::Error| Error::doing("preparing the config tool", e);
    let tool = Program::ConfigTool.try_path()?;
    let names = ["cp", "merge", "run-helm.sh"];
    for name in names {
        fs::copy(&tool, context.join(name)).map_err(failed)?;
    }
    let dockerfile = format!("FROM scratch\nCOPY {} /\n", names.join(" "));
    fs::write(context.join("Dockerfile"), dockerfile).map_err(failed)?;
    CONFIG_TOOL_TAGS.iter().try_for_each(|tag| {
        let tag = format!("docker.io/milvusdb/milvus-config-tool:{tag}");
        node.try_build_image(&BuildImage::new(tag, &context))
    })
}

/// The machine's C library and other shared libraries, for all versions.
fn build_base(node: &Node, wheels: &Path, versions: &[MilvusVersion]) -> Result<(), Error> {
    let mut programs = Vec::new();
    for version in versions {
        programs.extend(server_files(&wheels.join(version.name()))?);
    }
    let programs: Vec<&Path> = programs.iter().map(PathBuf::as_path).collect();
    node.try_build_base(BASE, &programs)
}

/// The server and its libraries.
fn server_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |e: io::Error| Error::doing(format_args!("reading {}", folder.display()), e);
    let files: Result<Vec<PathBuf>, io::Error> = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut files = files.map_err(failed)?;
    files.retain(|file| file.extension().is_none_or(|extension| extension != "yaml"));
    Ok(files)
}

fn prepare(version: MilvusVersion, wheels: &Path, context: &Path) -> Result<(), Error> {
    let failed = |e: io::Error| Error::doing("writing an image's folder", e);
    let (from, root) = (wheels.join(version.name()), context.join("root"));
    for folder in ["milvus/bin", "milvus/lib", "milvus/configs", "tmp"] {
        fs::create_dir_all(root.join(folder)).map_err(failed)?;
    }
    let repaired = from.join("milvus-object-storage");
    for file in server_files(&from)? {
        let name = file.file_name().unwrap_or_default();
        let to = if name == "milvus" || file == repaired {
            continue;
        } else {
            root.join("milvus/lib").join(name)
        };
        link(&file, &to).map_err(failed)?;
    }
    let server = if repaired.is_file() {
        repaired
    } else {
        from.join("milvus")
    };
    link(&server, &root.join("milvus/bin/milvus")).map_err(failed)?;
    fs::copy(Program::ConfigTool.try_path()?, root.join("init")).map_err(failed)?;
    let template = fs::read_to_string(from.join("milvus.yaml")).map_err(failed)?;
    let configs = root.join("milvus/configs");
    fs::write(configs.join("milvus.yaml"), config(version, &template)?).map_err(failed)?;
    // 2.3 does not start without this file.
    let logging = "--logtostderr=true\n--minloglevel=1\n";
    fs::write(configs.join("glog.conf"), logging).map_err(failed)?;
    let dockerfile = format!("FROM {BASE}\n{DOCKERFILE}");
    fs::write(context.join("Dockerfile"), dockerfile).map_err(failed)
}

/// A hard link instead of a copy, if the file system allows it.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

/// The configuration of the wheel, with the values that differ in an image for a cluster.
fn config(version: MilvusVersion, template: &str) -> Result<String, Error> {
    // Wheels from 2.3 on set RocksMQ. The public image does not set a message queue, and charts
    // before 4.0.33 do not write `mq.type`.
    let (storage, queue) = match version {
        MilvusVersion::V2_1_0 | MilvusVersion::V2_2_16 => ("minio", None),
        MilvusVersion::V2_3_2 | MilvusVersion::V2_3_5 => ("remote", Some("default")),
    };
    let mut config = Config::new(template);
    for (path, value) in [
        ("etcd.use.embed", "false"),
        ("localStorage.path", "/var/lib/milvus/data/"),
        ("rocksmq.path", "/var/lib/milvus/rdb_data"),
        ("common.storageType", storage),
        ("log.stdout", "true"),
        ("log.file.rootPath", "\"\""),
    ] {
        config.set(path, value)?;
    }
    if let Some(queue) = queue {
        config.set("mq.type", queue)?;
    }
    for (section, port) in PORTS {
        config.set(&format!("{section}.port"), port)?;
    }
    Ok(config.text())
}
