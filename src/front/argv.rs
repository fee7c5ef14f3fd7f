//! The command line: `prebind [OPTIONS] [--] COMMAND [ARG]...`. The clap table lives here.
