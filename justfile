# What CI runs, by parts; `tests/run` is all of it on a fresh machine.

default: check

# Everything that must be green before a commit.
check: fmt lint doc test api instructions browser

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --locked --all-targets --features counted -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

test *args:
    tests/nextest {{args}}

# Has schemathesis ask a node and a main server what their documents say.
api:
    tests/api/run

# Writes openapi/*.json anew, of the handlers' types.
openapi:
    RECORD_OPENAPI=1 cargo nextest run --locked --lib -E 'test(openapi)'

# Writes the tables of docs/ anew, of the program's texts.
docs:
    RECORD_DOCS=1 cargo nextest run --locked -E 'test(/^docs::/)'

# Instructions per request, against the recorded ones; `--record` records anew.
instructions *args:
    tests/instructions {{args}}

# The pages in Chromium; SCREENSHOTS=folder keeps pictures of them.
browser *args:
    tests/browser/run {{args}}

# Attacks and faults at full count against the release binary; writes the table
# of RELIABILITY.md. "$@" goes to nextest.
attack *args:
    tests/attack {{args}}

# Everything that must be clean before an issue is closed.
close: deny machete typos

deny:
    cargo deny check licenses bans sources

machete:
    cargo machete

typos:
    typos

# What users install: tarball, Debian package, list of contents, checksums.
# `--binary FILE` takes a program that is built already.
release *args:
    packaging/release {{args}}

demo:
    cargo run --release --locked -- demo

# Speed, against nginx and others; writes the tables of BENCHMARKS.md.
# `just bench serving --quick` for a look at one of them.
bench *args:
    benches/run {{args}}
