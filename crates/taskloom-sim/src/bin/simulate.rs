//! Runs many seeds on all cores, or one again.

use std::process::ExitCode;
use taskloom_sim::{Failure, Part, Progress, Settings, run_many, run_part, shrink};

const USAGE: &str = "\
simulate [--from SEED] [--seeds COUNT] [--large]   many seeds, on all cores
simulate --seed SEED [--only STEPS] [--without TASKS] [--large] [--trace | --shrink]
                                                   one seed again, or a part of its plan
A run that fails is made smaller, and the command that replays it is printed.";

/// What the command line says.
struct Options {
    seed: Option<u64>,
    from: u64,
    seeds: u64,
    part: Part,
    settings: Settings,
    shrink: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let (mut seed, mut from, mut seeds) = (None, 0, 10_000);
        let (mut only, mut without) = (None, None);
        let (mut large, mut trace, mut shrink) = (false, false, false);
        let mut rest = args.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{name} needs a value"));
            let number = |text: &String| {
                text.parse::<u64>().map_err(|_| format!("{name}: {text:?} is no number"))
            };
            match name.as_str() {
                "--seed" => seed = Some(number(value()?)?),
                "--from" => from = number(value()?)?,
                "--seeds" => seeds = number(value()?)?,
                "--only" => only = Some(value()?.as_str()),
                "--without" => without = Some(value()?.as_str()),
                "--large" => large = true,
                "--trace" => trace = true,
                "--shrink" => shrink = true,
                other => return Err(format!("{other:?} is no option\n{USAGE}")),
            }
        }
        let part = Part::parse(only, without)
            .ok_or("--only takes steps as in 3,7 and --without tasks as in 3.0,3.2")?;
        let settings = if large { Settings::large() } else { Settings::default() };
        let settings = Settings { trace, ..settings };
        Ok(Self { seed, from, seeds, part, settings, shrink })
    }

    fn run(&self) -> Result<(), Box<Failure>> {
        if let Some(seed) = self.seed {
            let report = run_part(seed, self.settings, &self.part).map_err(Box::new)?;
            println!("seed {seed} is clean: {report:?}");
            return Ok(());
        }
        let seeds = self.from..self.from.saturating_add(self.seeds);
        let tell = |Progress { clean_to, per_second }| {
            eprintln!("clean to seed {clean_to}, {per_second:.0} seeds/s (--from {clean_to})");
        };
        let sum = run_many(seeds, self.settings, tell)?;
        println!("{} seeds from {} are clean: {sum:?}", self.seeds, self.from);
        Ok(())
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&args) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("simulate: {message}");
            return ExitCode::from(2);
        }
    };
    let Err(failure) = options.run() else { return ExitCode::SUCCESS };
    if options.shrink || options.seed.is_none() {
        // What is tried on the way fails on purpose.
        std::panic::set_hook(Box::new(|_| ()));
        eprintln!("{}", shrink(&failure, options.settings));
    } else {
        eprintln!("{failure}");
    }
    ExitCode::FAILURE
}
