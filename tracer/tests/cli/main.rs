//! The command line: output, messages, exit status and the screen. All tests read recordings, most of
//! them made by a [fake kernel](synfin_testkit), and need neither root nor traffic.

mod anonymize;
mod fail_on;
mod files;
mod flight_recorder;
mod golden;
mod help;
mod output;
mod samples;
mod screen;
