//! Embeds the tables of Milvus releases as JSON: a program reads JSON ten times faster than the
//! YAML that people edit, and it reads the tables at each start.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

/// Tables of the embedded catalogue, in the order in which they are read.
const TABLES: [&str; 11] = [
    "dates",
    "paths",
    "bad-releases",
    "charts",
    "chart-values",
    "hazards",
    "orders",
    "management",
    "mirrors",
    "dependencies",
    "configuration",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = "src/milvus/catalogue/data";
    println!("cargo::rerun-if-changed={folder}");
    println!("cargo::rerun-if-changed=build.rs");
    let mut tables = Vec::new();
    for name in TABLES {
        let path = Path::new(folder).join(name).with_extension("yaml");
        let text = fs::read_to_string(&path)?;
        let table: serde_json::Value = serde_saphyr::from_str(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        tables.push((format!("{name}.yaml"), table.to_string()));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(
        out.join("tables.rs"),
        format!("{tables:?}").replacen('[', "&[", 1),
    )?;
    Ok(())
}
