//! The manual page and the completions, printed from the clap table.

use crate::front::argv;
use clap::Command;
use clap_complete::Shell;

/// What `prebind --generate WHAT` prints.
pub fn prebind(what: &str) -> String {
    if what == "units" {
        return super::units_manual::page();
    }
    if what == "circus" {
        return super::circus_manual::page();
    }
    if what == "servers" {
        return super::servers::table();
    }
    let page = generate(argv::table(), "prebind", what);
    if what == "man" { page + &super::manual::chapters() } else { page }
}

/// Prints one of them for a table.
pub(super) fn generate(mut table: Command, name: &str, what: &str) -> String {
    let mut out = Vec::new();
    let shell = match what {
        "completions-bash" => Shell::Bash,
        "completions-zsh" => Shell::Zsh,
        "completions-fish" => Shell::Fish,
        _ => {
            // Writing to memory does not fail.
            let _ = clap_mangen::Man::new(table).render(&mut out);
            return String::from_utf8_lossy(&out).into_owned();
        }
    };
    clap_complete::generate(shell, &mut table, name, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_holds_the_table_of_servers() {
        let held = include_str!("../../README.md").contains(&super::super::servers::table());
        assert!(held, "the README's table is not what prebind --generate servers prints");
    }

    /// The committed texts are the printed ones: `prebind --generate WHAT > FILE` puts one right.
    #[test]
    fn committed_files_are_the_generated_ones() {
        for (what, file, committed) in [
            ("man", "man/prebind.1", include_str!("../../man/prebind.1")),
            ("units", "man/prebind.units.5", include_str!("../../man/prebind.units.5")),
            ("circus", "man/prebind.circus.5", include_str!("../../man/prebind.circus.5")),
            ("completions-bash", "man/completions/prebind.bash", include_str!("../../man/completions/prebind.bash")),
            ("completions-zsh", "man/completions/prebind.zsh", include_str!("../../man/completions/prebind.zsh")),
            ("completions-fish", "man/completions/prebind.fish", include_str!("../../man/completions/prebind.fish")),
        ] {
            let remedy = format!("prebind --generate {what} > {file}");
            assert_eq!(super::prebind(what), committed, "{file} is not what the table prints ({remedy})");
        }
    }
}
