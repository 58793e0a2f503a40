//! The `delta` command: one file per subcommand; this one only dispatches.

mod at;
mod blob;
#[cfg(feature = "chat")]
mod chat;
mod demo;
mod device;
mod directory;
mod dm;
mod document;
mod export;
mod history;
mod identity;
mod input;
mod keygen;
mod keys;
mod kv;
mod message;
mod no_proxy;
mod onion;
mod outbox;
mod output;
mod own;
mod platform;
mod programs;
mod search;
mod send;
mod space;
mod status;
mod tail;
#[cfg_attr(not(feature = "chat"), allow(dead_code, reason = "the chat lays text out"))]
mod text;
mod topic;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::output::{Output, Usage};

const AFTER_HELP: &str = "\
First steps (`delta demo --serve` in another terminal is a network to try it on; it prints what to set):
  export DELTA_DB=ada.db DELTA_KEYS=ada.keys     this device: what --db and --keys say otherwise
  delta space create --name Garden               prints the space's id
  delta room create --space ID --name Shed       prints the room's id
  delta invite create --space ID --once          prints an invitation, for one other person
  delta chat                                     lets them in, and talks
and there: delta invite accept INVITATION, then delta chat. Every command's --help has examples.

Results go to standard output, everything else to standard error. With --json a result is one JSON value, bytes
in lower-case hex, and an error is {\"error\": …} on standard error.

Exit codes: 0 done, 1 failed, 2 the command line was not understood, 128 + n ended by signal n. A command that clears up
after SIGINT or SIGTERM first has ten seconds for it (a demo: sixty); a second one ends it at once.";

/// Delta: signed operations through onion relays to a sync server that cannot tell who sent them.
#[derive(Parser)]
#[command(name = "delta", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one value of it in the life of the program")]
enum Command {
    /// Make a device key, a private topic or a node's keys.
    Keygen(keygen::Options),
    /// Make, read or show who you are: 24 words and an address.
    #[command(subcommand)]
    Identity(identity::Command),
    /// Write a device's database, and your words, into one file that a passphrase opens.
    Export(export::ExportOptions),
    /// Read such a file into a new database.
    Import(export::ImportOptions),
    /// Build and open onion packets by hand.
    #[command(subcommand)]
    Onion(onion::Command),
    /// Sign and show directories of nodes.
    #[command(subcommand)]
    Directory(directory::Command),
    /// Show the main job: two devices talk through three relays and a sync server.
    Demo(demo::Options),
    /// Publish messages.
    Send(send::Options),
    /// Print messages as they come.
    Tail(tail::Options),
    /// Send files with messages; change, delete and react to messages.
    #[command(subcommand)]
    Message(message::Command),
    /// Fetch what messages bring along.
    #[command(subcommand)]
    Blob(blob::Command),
    /// Talk in rooms, in this terminal.
    #[cfg(feature = "chat")]
    Chat(chat::Options),
    /// Pair, list and revoke your devices.
    #[command(subcommand)]
    Device(own::Command),
    /// Make and look at spaces.
    #[command(subcommand)]
    Space(space::SpaceCommand),
    /// Make and look at the rooms of a space.
    #[command(subcommand)]
    Room(space::RoomCommand),
    /// Add, remove and look at the members of a space.
    #[command(subcommand)]
    Member(space::MemberCommand),
    /// Make and accept invitations to spaces.
    #[command(subcommand)]
    Invite(space::InviteCommand),
    /// Keep values under keys, with everybody in a room.
    #[command(subcommand)]
    Kv(kv::Command),
    /// Write documents together with everybody in a room.
    #[command(subcommand)]
    Document(document::Command),
    /// Talk to one other device.
    #[command(subcommand)]
    Dm(dm::Command),
    /// Search the messages of this device.
    Search(search::Options),
    /// Search the history of a public channel.
    History(history::Options),
    /// Show where a device stands in a topic.
    Status(status::Options),
    /// Look at what was not delivered yet; try again, or take it back.
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Describe, close or delete a public topic; see who listens.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Run a relay, as `delta-relay` does; `delta relay record` signs its directory record.
    Relay(delta_relay::Cli),
    /// Run a sync server, as `delta-sync` does; `delta sync record` signs its directory record.
    Sync(delta_sync::Cli),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&without_secret(error)),
    };
    let output = Output::new(cli.json);
    let done = match cli.command {
        Command::Keygen(options) => keygen::run(&options, &output),
        Command::Identity(command) => identity::run(command, &output),
        Command::Export(options) => export::export(&options, &output),
        Command::Import(options) => export::import(&options, &output),
        Command::Onion(command) => onion::run(command, &output),
        Command::Directory(command) => directory::run(command, &output),
        Command::Demo(options) => on_runtime(demo::run(&options, &output)),
        Command::Send(options) => on_runtime(send::run(&options, &output)),
        Command::Tail(options) => on_runtime(tail::run(&options, &output)),
        Command::Message(command) => on_runtime(message::run(&command, &output)),
        Command::Blob(command) => on_runtime(blob::run(&command, &output)),
        #[cfg(feature = "chat")]
        Command::Chat(options) => on_runtime(chat::run(&options, &output)),
        Command::Device(command) => on_runtime(own::run(&command, &output)),
        Command::Space(command) => on_runtime(space::run_space(&command, &output)),
        Command::Room(command) => on_runtime(space::run_room(&command, &output)),
        Command::Member(command) => on_runtime(space::run_member(&command, &output)),
        Command::Invite(command) => on_runtime(space::run_invite(&command, &output)),
        Command::Kv(command) => on_runtime(kv::run(&command, &output)),
        Command::Document(command) => on_runtime(document::run(&command, &output)),
        Command::Dm(command) => on_runtime(dm::run(&command, &output)),
        Command::Search(options) => on_runtime(search::run(&options, &output)),
        Command::History(options) => on_runtime(history::run(&options, &output)),
        Command::Status(options) => on_runtime(status::run(&options, &output)),
        Command::Outbox(command) => on_runtime(outbox::run(&command, &output)),
        Command::Topic(command) => on_runtime(topic::run(&command, &output)),
        Command::Relay(cli) => programs::relay(cli),
        Command::Sync(cli) => programs::sync(cli),
    };
    output.end(done)
}

/// Help and version are results; the rest is an error as every other, in the form that was asked for.
fn not_understood(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json");
    let hint = from_environment(error);
    if !json || !error.use_stderr() {
        let Some(hint) = hint else { error.exit() };
        let _ = error.print();
        Output::new(false).note(&hint);
        return ExitCode::from(2);
    }
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command is missing; --help names them".to_owned()
        }
        // Its first paragraph; usage and hints follow.
        _ => {
            let text = error.render().to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            hint.map_or_else(|| first.to_owned(), |hint| format!("{first}; {hint}"))
        }
    };
    Output::new(true).end(Err(Usage(text).into()))
}

/// Where two arguments do not go together, which of them nobody wrote on the command line.
fn from_environment(error: &clap::Error) -> Option<String> {
    let set = ["DELTA_KEY", "DELTA_KEYS"].into_iter().find(|name| std::env::var_os(name).is_some());
    set.filter(|_| error.kind() == ErrorKind::ArgumentConflict)
        .map(|name| format!("{name} is set in the environment: unset it to say it otherwise"))
}

/// What the values of arguments are called that are secrets, or nearly.
const SECRETS: [&str; 5] = ["<SECRET>", "<TICKET>", "<INVITATION>", "<TEXT>", "<PROXY>"];

/// A secret with a slip in it is still one: not for a terminal's history, and not for a log.
fn without_secret(mut error: clap::Error) -> clap::Error {
    let argument = error.get(ContextKind::InvalidArg);
    let is_secret = argument.is_some_and(|argument| {
        let ContextValue::String(argument) = argument else { return false };
        SECRETS.iter().any(|secret| argument.contains(secret))
    });
    let file = error.get(ContextKind::InvalidValue).is_some_and(|value| value.to_string().starts_with('@'));
    if is_secret && !file {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    error
}

/// Runs a command that needs sockets and timers.
fn on_runtime(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // A thread that still reads standard input must not keep the program alive.
    runtime.shutdown_background();
    done
}
