//! `pathpulse completions`: completion scripts of shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure, output};

/// Prints the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pathpulse completions bash > /usr/share/bash-completion/completions/pathpulse\n  \
    pathpulse completions zsh > /usr/share/zsh/vendor-completions/_pathpulse\n  \
    pathpulse completions fish > /usr/share/fish/vendor_completions.d/pathpulse.fish"
)]
pub(crate) struct Args {
    /// Shell that will read the script
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pathpulse", &mut text);
    output::print(&String::from_utf8_lossy(&text));
    Ok(0)
}
