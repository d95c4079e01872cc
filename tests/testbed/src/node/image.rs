use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::search_path;
use super::{Node, PAUSE_IMAGE};
use crate::Error;
use crate::command::{expect_output, only_neutral_environment};
use crate::error::or_panic;
use crate::programs::Program;

/// An image to build from a Dockerfile, for [`Node::build_image`].
#[derive(Debug, Clone)]
#[must_use]
pub struct BuildImage {
    tag: String,
    context: PathBuf,
    args: Vec<String>,
}

impl BuildImage {
    /// From `Dockerfile` in the folder `context`, with the name `tag`, for example
    /// `localhost/web:1`.
    pub fn new(tag: impl Into<String>, context: impl Into<PathBuf>) -> Self {
        Self {
            tag: tag.into(),
            context: context.into(),
            args: Vec::new(),
        }
    }

    /// Uses another Dockerfile.
    pub fn dockerfile(mut self, path: impl AsRef<Path>) -> Self {
        self.args
            .push(format!("--file={}", path.as_ref().display()));
        self
    }

    /// The stage to build.
    pub fn target(mut self, stage: &str) -> Self {
        self.args.push(format!("--target={stage}"));
        self
    }

    /// Gives a build argument a value.
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.push(format!("--build-arg={name}={value}"));
        self
    }
}

/// Images; all are built inside of the node, so without a network, and are deleted with it.
impl Node {
    /// Builds an image with buildah and loads it into the node. Base images must be built before.
    ///
    /// # Panics
    /// When the build fails; the message contains its output.
    #[track_caller]
    pub fn build_image(&self, image: &BuildImage) {
        or_panic(self.try_build_image(image));
    }

    pub(crate) fn try_build_image(&self, image: &BuildImage) -> Result<(), Error> {
        self.try_build(image)?;
        self.try_load_built(&image.tag)
    }

    /// Builds an image with only the shared libraries of these programs, which this machine has, at
    /// the same paths. A program that was built on this machine runs in an image with this base.
    ///
    /// # Panics
    /// When a program does not exist or the build fails.
    #[track_caller]
    pub fn build_base_image(&self, tag: &str, programs: &[&Path]) {
        or_panic(self.try_build_base(tag, programs));
    }

    /// Loads an image from an archive, as `buildah push` and `docker save` write it.
    ///
    /// # Panics
    /// When containerd does not accept it.
    #[track_caller]
    pub fn load_image(&self, archive: &Path) {
        or_panic(self.try_load(archive));
    }

    pub(super) fn load_pause_image(&self) -> Result<(), Error> {
        let context = self.folder("pause-image")?;
        let failed = |e| Error::doing("preparing the pause image", e);
        fs::copy(Program::Pause.try_path()?, context.join("pause")).map_err(failed)?;
        fs::write(
            context.join("Dockerfile"),
            "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n",
        )
        .map_err(failed)?;
        self.try_build(&BuildImage::new(PAUSE_IMAGE, context))?;
        self.try_load_built(PAUSE_IMAGE)
    }

    pub(crate) fn try_build_base(&self, tag: &str, programs: &[&Path]) -> Result<(), Error> {
        let failed = |e| Error::doing(format_args!("preparing {tag}"), e);
        let mut libraries = BTreeSet::new();
        for program in programs {
            let mut ldd = Command::new("ldd");
            only_neutral_environment(&mut ldd);
            libraries.extend(libraries_in(&expect_output(ldd.arg(program))?));
        }
        let context = self.folder("base-image")?;
        // COPY needs a source even if all programs are static.
        fs::create_dir(context.join("root")).map_err(failed)?;
        for library in libraries {
            let to = context.join("root").join(library.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap_or(&context)).map_err(failed)?;
            fs::copy(&library, &to).map_err(failed)?;
        }
        fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY root/ /\n").map_err(failed)?;
        self.try_build(&BuildImage::new(tag, context))
    }

    fn try_build(&self, image: &BuildImage) -> Result<(), Error> {
        let mut buildah = self.buildah();
        // Without this, buildah would create one of its folders on the machine.
        buildah
            .args(["build", "--quiet", "--tag", &image.tag, "--cni-config-dir"])
            .arg(self.scratch().join("buildah/cni"));
        buildah.args(&image.args).arg(&image.context);
        expect_output(&mut buildah).map(|_| ())
    }

    fn try_load_built(&self, tag: &str) -> Result<(), Error> {
        let archive = self.folder("archive")?.join("image.tar");
        expect_output(self.buildah().args([
            "push",
            "--quiet",
            tag,
            &format!("docker-archive:{}:{tag}", archive.display()),
        ]))?;
        self.try_load(&archive)?;
        fs::remove_file(&archive).map_err(|e| Error::doing("removing an archive", e))
    }

    fn try_load(&self, archive: &Path) -> Result<(), Error> {
        let mut ctr = self.inside("ctr");
        ctr.arg("--address")
            .arg(self.scratch().join("containerd.sock"));
        ctr.args([
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "--snapshotter",
            "overlayfs",
        ])
        .arg(archive);
        expect_output(&mut ctr).map(|_| ())
    }

    fn buildah(&self) -> Command {
        let mut buildah = self.inside("buildah");
        buildah
            .env("BUILDAH_ISOLATION", "chroot")
            .env("STORAGE_DRIVER", "overlay")
            .env("HOME", self.scratch().join("home"));
        let storage = self.scratch().join("buildah");
        buildah
            .arg("--root")
            .arg(storage.join("root"))
            .arg("--runroot")
            .arg(storage.join("run"));
        buildah
    }

    /// A program of the machine in the node's namespaces: it uses the node's network and ends with
    /// the node.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        only_neutral_environment(&mut command);
        command
            .env("PATH", search_path())
            .arg(format!("--target={}", self.init));
        command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--", program]);
        command
    }

    /// A new folder in the temporary directory.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(self.scratch().path());
        folder
            .map(tempfile::TempDir::keep)
            .map_err(|e| Error::doing("making a directory", e))
    }
}

/// The files that `ldd` names: `name => /path (address)`, or `/path (address)` for the loader.
fn libraries_in(ldd: &str) -> impl Iterator<Item = String> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::libraries_in;

    #[test]
    fn libraries_are_read_from_ldd() {
        let ldd = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7e)\n\t/lib64/ld-linux-x86-64.so.2 (0x7d)\n";
        assert_eq!(
            libraries_in(ldd).collect::<Vec<_>>(),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(libraries_in("\tstatically linked\n").count(), 0);
    }
}
