//! A federation of real `hashmesh` processes on loopback, set up the way operators do it: by the command line.
//!
//! The processes are this very program, which runs as `hashmesh` when its first argument says so: so they are always of the
//! same build as the code that judges them. Whatever is started here ends with the [`Cluster`].

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hashmesh::api::form::StatusAnswer;
use hashmesh::client::Client;
use hashmesh::config::Config;
use hashmesh::documents::Found;
use hashmesh::folder::Folder;
use hashmesh::keys;

/// The argument that makes this program run as `hashmesh`.
pub const AS_HASHMESH: &str = "as-hashmesh";

/// How long a node may take to answer queries.
const START: Duration = Duration::from_secs(60);

/// How to run `hashmesh`: a program, and arguments that come before all others.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    before: Vec<OsString>,
}

impl Program {
    /// This program itself, as `hashmesh`.
    pub fn own() -> anyhow::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, before: vec![AS_HASHMESH.into()] })
    }

    /// A `hashmesh` somewhere else.
    pub fn at(path: PathBuf) -> Self {
        Self { path, before: Vec::new() }
    }

    /// A command in which the data folder is given.
    pub fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.before).arg("--data").arg(data);
        command
    }
}

/// A member's node.
pub struct Member {
    /// The member.
    pub id: String,
    /// Its data folder.
    pub folder: Folder,
    program: Program,
    process: Option<Child>,
}

/// A federation of processes.
pub struct Cluster {
    root: PathBuf,
    members: Vec<Member>,
}

impl Cluster {
    /// Founds a federation in a folder: keys, cards, a charter that all have signed, addresses of each other. Nothing runs
    /// yet. Members are given as id, name, jurisdiction.
    pub fn found(root: &Path, program: &Program, members: &[(&str, &str, &str)]) -> anyhow::Result<Self> {
        Self::found_with(root, program, members, &[])
    }

    /// The same, with limits of the charter that differ from the standard ones.
    pub fn found_with(
        root: &Path,
        program: &Program,
        members: &[(&str, &str, &str)],
        limits: &[(&str, u64)],
    ) -> anyhow::Result<Self> {
        let mut cluster = Self { root: root.to_owned(), members: Vec::new() };
        let ports = free_ports(members.len())?;
        let addresses: Vec<String> = ports.iter().map(|port| format!("/ip4/127.0.0.1/tcp/{port}")).collect();
        for ((id, name, jurisdiction), address) in members.iter().zip(&addresses) {
            let member = Member {
                id: (*id).to_owned(),
                folder: Folder::new(root.join(id)),
                program: program.clone(),
                process: None,
            };
            member.hashmesh(&[
                "init",
                "--member",
                id,
                "--name",
                name,
                "--jurisdiction",
                jurisdiction,
                "--listen",
                address,
            ])?;
            cluster.members.push(member);
        }
        let charter = root.join("genesis.charter");
        let cards = members.iter().map(|(id, ..)| root.join(id).join(format!("{id}.card")));
        let first = &cluster.members[0];
        let mut new = first.command(&["charter", "new", "--federation", "demo.example", "--output"]);
        new.arg(&charter).args(cards);
        if !limits.is_empty() {
            let file = root.join("limits.toml");
            let lines: Vec<_> = limits.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            fs::write(&file, lines.concat())?;
            new.arg("--limits").arg(file);
        }
        run(&mut new)?;
        let mut files = vec![charter.clone()];
        for member in &cluster.members {
            let signature = root.join(format!("{}.sig", member.id));
            let mut sign = member.command(&["charter", "sign"]);
            run(sign.arg(&charter).arg("--output").arg(&signature))?;
            files.push(signature);
        }
        for member in &cluster.members {
            run(member.command(&["join"]).args(&files))?;
            for (other, address) in cluster.members.iter().zip(&addresses) {
                if other.id != member.id {
                    member.hashmesh(&["peers", "add", &other.id, address])?;
                }
            }
        }
        Ok(cluster)
    }

    /// Sets up a follower of these members' nodes, which let it in when they start next. It is counted after all
    /// members and runs like them.
    pub fn follow(&mut self, name: &str, of: &[usize], openings: bool) -> anyhow::Result<usize> {
        let mut files = vec![self.root.join("genesis.charter")];
        files.extend(
            self.members.iter().map(|member| self.root.join(format!("{}.sig", member.id))).filter(|file| file.exists()),
        );
        let program = self.members[0].program.clone();
        let follower =
            Member { id: name.to_owned(), folder: Folder::new(self.root.join(name)), program, process: None };
        let network = Found::in_files(&files)?.charter()?.network().to_string();
        run(follower.command(&["follow", "--network", &network]).args(&files))?;
        let key = keys::load_node(&follower.folder)?.public().to_string();
        for &at in of {
            let member = &self.members[at];
            let mut add = member.command(&["followers", "add", name, &key]);
            run(add.args(openings.then_some("--openings")))?;
            for address in Config::load(&member.folder.config())?.listen {
                follower.hashmesh(&["peers", "add", &member.id, &address])?;
            }
        }
        self.members.push(follower);
        Ok(self.members.len() - 1)
    }

    /// Sets up the node of somebody who is to become a member. It has joined nothing yet. It is counted after all members.
    pub fn applies(&mut self, (id, name, jurisdiction): (&str, &str, &str)) -> anyhow::Result<usize> {
        let address = format!("/ip4/127.0.0.1/tcp/{}", free_ports(1)?[0]);
        let program = self.members[0].program.clone();
        let member = Member { id: id.to_owned(), folder: Folder::new(self.root.join(id)), program, process: None };
        let named = ["--member", id, "--name", name, "--jurisdiction", jurisdiction, "--listen", &address];
        member.hashmesh(&[&["init"], &named[..]].concat())?;
        self.members.push(member);
        Ok(self.members.len() - 1)
    }

    /// The folder that everything lies in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One member, by its place.
    pub fn member(&self, at: usize) -> &Member {
        &self.members[at]
    }

    /// Starts a member's node and waits until it answers queries.
    pub fn start(&mut self, at: usize) -> anyhow::Result<()> {
        self.members[at].start()
    }

    /// Starts all nodes.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Member::start)
    }

    /// Ends a node as the loss of power would: SIGKILL.
    pub fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.members[at].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Asks a node to stop, and waits until it has.
    pub fn stop(&mut self, at: usize) -> anyhow::Result<()> {
        self.members[at].stop()
    }

    /// Waits until all running nodes hold the same logs; the first that is not there in time is an error.
    pub async fn agree(&self, patience: Duration) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        loop {
            let mut roots = Vec::new();
            for member in self.members.iter().filter(|member| member.process.is_some()) {
                let status = member.status().await?;
                roots.push(status.logs.into_iter().map(|log| (log.size, log.root, log.missing)).collect::<Vec<_>>());
            }
            if roots.windows(2).all(|pair| pair[0] == pair[1]) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > patience {
                bail!("the nodes do not agree after {} s: {roots:?}", patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every running node holds all logs and knows all of them to be settled.
    pub async fn settled(&self, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.agree(patience).await?;
        for member in self.members.iter().filter(|member| member.process.is_some()) {
            while member.status().await?.logs.iter().any(|log| log.settled < log.size) {
                ensure!(begun.elapsed() < patience, "{}: not everything is settled", member.id);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Waits until every running node is connected to every other and would sign.
    pub async fn connected(&self, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let running = self.members.iter().filter(|member| member.process.is_some()).count();
        for member in self.members.iter().filter(|member| member.process.is_some()) {
            loop {
                let status = member.status().await?;
                if status.peers.len() + 1 >= running && status.silent.is_none() {
                    break;
                }
                if begun.elapsed() > patience {
                    bail!(
                        "{} has {} peers after {} s; see {}",
                        member.id,
                        status.peers.len(),
                        patience.as_secs(),
                        member.log().display()
                    );
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All are told before any is waited for.
        for process in self.members.iter().filter_map(|member| member.process.as_ref()) {
            let _gone = ask_to_stop(process);
        }
        for member in &mut self.members {
            if member.stop().is_err()
                && let Some(mut process) = member.process.take()
            {
                // It did not stop when asked; nothing may be left behind.
                let _gone = process.kill();
                let _gone = process.wait();
            }
        }
    }
}

impl Member {
    /// A command of this member's node.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command(self.folder.root());
        command.args(arguments);
        command
    }

    /// Runs a command and gives what it prints; an error if it does not end well.
    pub fn hashmesh(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.command(arguments))
    }

    /// Runs a command, whatever comes of it.
    pub fn attempt(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// Where the node's log is.
    pub fn log(&self) -> PathBuf {
        self.folder.root().with_extension("log")
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Its state.
    pub async fn status(&self) -> anyhow::Result<StatusAnswer> {
        Ok(Client::admin(&self.folder).await?.get("/v1/status").await?)
    }

    /// The origin of its own log.
    pub async fn origin(&self) -> anyhow::Result<String> {
        let status = self.status().await?;
        let own = status.logs.into_iter().find(|log| log.member == self.id);
        Ok(own.context("a member has a log")?.origin)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut process = self.command(&["run"]).stdout(Stdio::piped()).stderr(log).spawn()?;
        let out = process.stdout.take().context("standard output is piped")?;
        self.process = Some(process);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(out).read_line(&mut line);
            // Nobody waits any more if this fails.
            let _gone = tell.send(read.map(|_| line));
        });
        match told.recv_timeout(START) {
            Ok(Ok(line)) if line.starts_with("ready") => Ok(()),
            _ => {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                bail!("{} does not start: {}", self.id, last.into_iter().rev().collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        ask_to_stop(process)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if process.try_wait()?.is_some() {
                self.process = None;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{} does not stop", self.id)
    }
}

fn ask_to_stop(process: &Child) -> rustix::io::Result<()> {
    rustix::process::kill_process(rustix::process::Pid::from_child(process), rustix::process::Signal::TERM)
}

/// Runs a command to its end.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("hashmesh {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Ports that nobody listens on now.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}
