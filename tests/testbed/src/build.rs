use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::daemon::tail;
use crate::programs::Bundle;
use crate::recipes::{Recipe, Tool, recipe};

/// The executable of a bundle; the programs are symbolic links to it.
const EXECUTABLE: &str = "bundle";
/// Separates the name of a folder in the cache from a random suffix while the folder is being
/// built.
const PART: &str = ".part-";

/// Flags of `go build`, without output and package.
fn go_flags(ldflags: &str) -> Vec<String> {
    let ldflags = format!("-s -w {ldflags}");
    [
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        ldflags.trim_end(),
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Recipe {
    /// A hash of everything that determines the result, without the versions of Go and Python, so
    /// that an update of these does not rebuild the cache.
    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        part(std::env::consts::OS);
        part(std::env::consts::ARCH);
        match &self.tool {
            Tool::Go {
                package, ldflags, ..
            } => {
                part(package);
                for flag in go_flags(ldflags) {
                    part(&flag);
                }
            }
            Tool::Python { script } => part(script),
        }
        for (name, content) in &self.sources {
            part(name);
            part(content);
        }
        hash.finalize()
            .iter()
            .take(6)
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }
}

/// The folder in `cache` with the executables of `bundle`; builds them if they are missing.
pub(crate) fn ensure(bundle: Bundle, cache: &Path) -> Result<PathBuf, Error> {
    let recipe = recipe(bundle);
    let id = format!("{}-{}", bundle.name(), recipe.hash());
    let dir = cache.join(&id);
    if dir.is_dir() {
        return Ok(dir);
    }
    let failed = |e: io::Error| {
        Error::doing(
            format_args!("building {} in {}", bundle.name(), cache.display()),
            e,
        )
    };
    fs::create_dir_all(cache).map_err(failed)?;
    // The kernel releases the lock when the process ends, so a killed build blocks no other.
    let lock = File::create(cache.join(format!("{id}.lock"))).map_err(failed)?;
    if lock.try_lock().is_err() {
        say(format_args!(
            "waiting for another process that is building {}",
            recipe.about
        ));
        lock.lock().map_err(failed)?;
    }
    if dir.is_dir() {
        return Ok(dir);
    }
    remove_leftovers(cache, &id);
    let work = tempfile::Builder::new()
        .prefix(&format!("{id}{PART}"))
        .tempdir_in(cache)
        .map_err(failed)?;
    say(format_args!(
        "building {} on 2 cores, this once",
        recipe.about
    ));
    let begin = Instant::now();
    compile(bundle, &recipe, work.path())?;
    fs::rename(work.path().join("out"), &dir).map_err(failed)?;
    say(format_args!(
        "built {} in {} s: {}",
        bundle.name(),
        begin.elapsed().as_secs(),
        dir.display()
    ));
    Ok(dir)
}

/// Builds in the folder `work`: sources in `src`, the result in `out`.
fn compile(bundle: Bundle, recipe: &Recipe, work: &Path) -> Result<(), Error> {
    let failed = |e: io::Error| Error::doing(format_args!("building {}", bundle.name()), e);
    let (source, out) = (work.join("src"), work.join("out"));
    fs::create_dir_all(&source).map_err(failed)?;
    fs::create_dir_all(&out).map_err(failed)?;
    for (name, content) in &recipe.sources {
        fs::write(source.join(name), content).map_err(failed)?;
    }
    let mut command = match &recipe.tool {
        Tool::Go {
            package,
            ldflags,
            programs,
        } => {
            for program in *programs {
                symlink(EXECUTABLE, out.join(program.name())).map_err(failed)?;
            }
            let mut go = Command::new("go");
            go.arg("build")
                .args(go_flags(ldflags))
                .arg("-o")
                .arg(out.join(EXECUTABLE))
                .arg(package);
            // Read-only: exactly the versions in go.mod and go.sum are built. The other variables
            // exclude settings of the machine.
            go.env("GOFLAGS", "-mod=readonly")
                .env("GOWORK", "off")
                .env("CGO_ENABLED", "0")
                .env_remove("GOOS")
                .env_remove("GOARCH");
            go
        }
        Tool::Python { script } => {
            let mut python = Command::new("python3");
            python.arg(script).arg(&out);
            python
        }
    };
    let output = command
        .current_dir(&source)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let program = command.get_program().display();
                Error::new(format!(
                    "{} is built with {program}, and there is none in the PATH",
                    bundle.name()
                ))
            }
            _ => failed(e),
        })?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!(
            "the build of {} failed ({}):\n{}",
            bundle.name(),
            output.status,
            tail(&log, 20)
        )));
    }
    Ok(())
}

/// Removes what a killed build left behind; the caller must hold the lock of `id`.
fn remove_leftovers(cache: &Path, id: &str) {
    let prefix = format!("{id}{PART}");
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // A failure only costs disk space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Prints a line for the user who waits.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    // Not eprintln: libtest would capture the line, and a first build would look like a test that
    // hangs.
    let _ = writeln!(io::stderr(), "test bed: {what}");
}

#[cfg(test)]
mod tests {
    use super::go_flags;
    use crate::programs::{
        Bundle, ETCD_VERSION, HELM_3_VERSION, HELM_4_VERSION, KUBE_ROUTER_VERSION,
        KUBERNETES_VERSION,
    };
    use crate::recipes::{HELM_3_KUBERNETES, Tool, recipe};

    fn pinned(bundle: Bundle, module: &str) -> String {
        let (_, go_mod) = recipe(bundle).sources[0];
        let mut lines = go_mod.lines().filter_map(|line| {
            line.trim()
                .trim_start_matches("require ")
                .strip_prefix(module)?
                .strip_prefix(' ')
        });
        lines
            .next()
            .expect("a required module")
            .split(' ')
            .next()
            .expect("a version")
            .to_owned()
    }

    #[test]
    fn the_version_constants_equal_the_pinned_versions() {
        assert_eq!(
            pinned(Bundle::Etcd, "go.etcd.io/etcd/server/v3"),
            ETCD_VERSION
        );
        assert_eq!(
            pinned(Bundle::Etcd, "go.etcd.io/etcd/etcdctl/v3"),
            ETCD_VERSION
        );
        assert_eq!(
            pinned(Bundle::Kube, "k8s.io/kubernetes"),
            KUBERNETES_VERSION
        );
        assert_eq!(
            pinned(Bundle::Node, "k8s.io/kubernetes"),
            KUBERNETES_VERSION
        );
        assert_eq!(
            pinned(Bundle::Kube, "k8s.io/kubectl"),
            KUBERNETES_VERSION.replacen("v1", "v0", 1)
        );
        assert_eq!(pinned(Bundle::Helm3, "helm.sh/helm/v3"), HELM_3_VERSION);
        assert_eq!(
            pinned(Bundle::Helm3, "k8s.io/client-go"),
            HELM_3_KUBERNETES.replacen("v1", "v0", 1)
        );
        assert_eq!(
            pinned(Bundle::Router, "github.com/cloudnativelabs/kube-router/v2"),
            KUBE_ROUTER_VERSION
        );
        assert_eq!(pinned(Bundle::Helm4, "helm.sh/helm/v4"), HELM_4_VERSION);
    }

    #[test]
    fn flags_set_the_versions() {
        let flags = |bundle| match recipe(bundle).tool {
            Tool::Go { ldflags, .. } => go_flags(&ldflags).join(" "),
            Tool::Python { .. } => panic!("not built with Go"),
        };
        let kube = flags(Bundle::Kube);
        assert!(
            kube.contains("-X k8s.io/component-base/version.gitVersion=v1.36.3"),
            "{kube}"
        );
        assert!(
            kube.contains("-X k8s.io/component-base/version.gitMinor=36"),
            "{kube}"
        );
        let helm = flags(Bundle::Helm3);
        assert!(
            helm.contains("-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37"),
            "{helm}"
        );
    }

    #[test]
    fn each_bundle_has_a_separate_folder() {
        let bundles = Bundle::ALL
            .iter()
            .chain(&Bundle::NODE)
            .chain([&Bundle::Milvus])
            .chain(&Bundle::ROLL);
        let mut hashes: Vec<String> = bundles.map(|bundle| recipe(*bundle).hash()).collect();
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }
}
