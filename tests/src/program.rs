//! The program `onnxq-opt`, run as users run it, and what its contract says of every failure.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{target_dir, workspace_dir};

/// The address space that a run may take, in KiB: what a bad file says of its size must not count.
const MEMORY_LIMIT: u64 = 8 << 20;

/// How long a run may take. The largest models of the suites take some seconds.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status; `None` where a signal ended it, or we did because it took too long.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

/// A folder of its own to run the program in; removed when dropped.
#[derive(Debug)]
pub struct Workbench {
    folder: TempDir,
}

/// The program, built the first time with the profile of the tests.
///
/// # Panics
///
/// Where it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let me = env::current_exe().unwrap_or_default();
        let release = me.components().any(|c| c.as_os_str() == "release");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .current_dir(workspace_dir())
            // The whole workspace, so that features are those of the test build.
            .args(["build", "--quiet", "--workspace", "--bin", "onnxq-opt"])
            .args(release.then_some("--release"))
            .arg("--target-dir")
            .arg(target_dir());
        let built = build.status().is_ok_and(|status| status.success());
        assert!(built, "onnxq-opt cannot be built: {build:?}");
        let profile = if release { "release" } else { "debug" };
        let name = format!("onnxq-opt{}", env::consts::EXE_SUFFIX);
        target_dir().join(profile).join(name)
    })
}

impl Workbench {
    /// An empty folder.
    ///
    /// # Panics
    ///
    /// Where there is no place for temporary files.
    pub fn new() -> Workbench {
        Workbench {
            folder: tempfile::tempdir().expect("temporary files can be written"),
        }
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Panics
    ///
    /// Where it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("temporary files can be written");
        path
    }

    /// The names of the files in the folder, in order.
    ///
    /// # Panics
    ///
    /// Where the folder cannot be read.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder exists");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.flatten().map(name).collect();
        names.sort();
        names
    }

    /// Runs the program in the folder with these arguments.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.run_with(args, &[])
    }

    /// The same with `input` as standard input.
    ///
    /// # Panics
    ///
    /// Where the program cannot be started.
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Outcome {
        let mut command = limited(program());
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        let (out, err) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            // A program that does not read it closes it; that is its affair.
            scope.spawn(move || stdin.write_all(input));
            let out = scope.spawn(move || read(out));
            let err = scope.spawn(move || read(err));
            let status = wait(&mut child).expect("the program can be waited for");
            let stderr = err.join().expect("reading does not panic");
            Outcome {
                status: status.and_then(|status| status.code()),
                stdout: out.join().expect("reading does not panic"),
                stderr: String::from_utf8_lossy(&stderr).into_owned(),
            }
        })
    }
}

impl Default for Workbench {
    fn default() -> Workbench {
        Workbench::new()
    }
}

fn read(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What could be read counts.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// The status of a program that ends in time; otherwise ends it.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    while start.elapsed() < TIME_LIMIT {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// A run of `program` that cannot take all the memory of the machine.
fn limited(program: &Path) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {MEMORY_LIMIT}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Checks that the run succeeded and said nothing but notes and warnings.
    ///
    /// # Errors
    /// Says what it did instead.
    pub fn success(&self) -> Result<&Outcome, String> {
        let allowed = |line: &str| line.starts_with("note: ") || line.starts_with("warning: ");
        if self.status == Some(0) && self.stderr.lines().all(allowed) {
            return Ok(self);
        }
        Err(format!("expected success: {}", self.describe()))
    }

    /// Checks that the run failed as the contract says: this status, one line `error:`, at most
    /// one line `help:` behind it, and nothing on standard output. Gives the message and the help.
    ///
    /// # Errors
    /// Says what it did instead.
    pub fn failure(&self, status: i32) -> Result<(&str, Option<&str>), String> {
        let broken = |what| Err(format!("{what}: {}", self.describe()));
        if self.status != Some(status) {
            return broken(format!("expected exit status {status}"));
        }
        if !self.stdout.is_empty() {
            return broken("there is output as well".to_owned());
        }
        let said = |line: &&str| !line.starts_with("note: ") && !line.starts_with("warning: ");
        let mut lines = self.stderr.lines().filter(said);
        let message = lines.next().and_then(|line| line.strip_prefix("error: "));
        let help = lines.next().map(|line| line.strip_prefix("help: "));
        match (message, help, lines.next()) {
            (Some(message), None, None) if is_fine(message) => Ok((message, None)),
            (Some(message), Some(Some(help)), None) if is_fine(message) => {
                Ok((message, Some(help)))
            }
            _ => broken("expected one error line, and one help line at most".to_owned()),
        }
    }

    fn describe(&self) -> String {
        format!("exit status {:?}, it said:\n{}", self.status, self.stderr)
    }
}

/// Whether a message is one for users.
fn is_fine(message: &str) -> bool {
    !message.is_empty() && !message.contains("internal error") && !message.contains("panicked")
}
