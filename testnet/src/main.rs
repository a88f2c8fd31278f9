//! The `hashmesh-testnet` command: federations on one machine, to look at and to measure.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hashmesh_testnet::bench::Bench;
use hashmesh_testnet::cluster::AS_HASHMESH;
use hashmesh_testnet::demo::Demo;
use hashmesh_testnet::sim::governance::command::Simulation;
use hashmesh_testnet::story::Story;
use hashmesh_testnet::tell::Unheard;

/// Federations on one machine: to look at, and to measure.
#[derive(Debug, Parser)]
#[command(name = "hashmesh-testnet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a federation of four real nodes on loopback and show what it does.
    Demo(Demo),
    /// Let something happen to a federation of real nodes on loopback.
    #[command(subcommand)]
    Story(Story),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// Simulate.
    #[command(subcommand)]
    Sim(Simulation),
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == AS_HASHMESH) {
        arguments.remove(1);
        return hashmesh::cli::main(arguments);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system can start threads");
    let done = runtime.block_on(async {
        match Cli::parse_from(arguments).command {
            Command::Demo(demo) => demo.run().await,
            Command::Story(story) => story.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::Sim(simulation) => tokio::task::block_in_place(|| simulation.run()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Unheard>() => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody listens there either, nobody can be told.
            let _unheard = writeln!(std::io::stderr(), "hashmesh-testnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
