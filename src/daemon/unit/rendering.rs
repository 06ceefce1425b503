//! Renders the templates of a resource, in several turns if they are slow, and compares the results with the files.
//! Writes no file.

use std::rc::Rc;
use std::time::Instant;

use super::persistence::Rendered;
use super::{Current, LONGEST_TURN, Outcome, Purpose, Unit, about, at};
use crate::backend;
use crate::host::files::{Comparison, Written};
use crate::log::{Level, Line};
use crate::mask::masked;
use crate::resource::{Effect, Event, Fault, Rendering};
use crate::store::Store;
use crate::store::changes::Changes;
use crate::template::Template;
use crate::template::reads::Recording;

/// The results of the present update so far.
pub(super) struct Round {
    /// The keys at the start of the round: all templates of an update are rendered from one state of the store.
    pub(super) keys: Keys,
    pub(super) renderings: Vec<Rendering>,
}

/// The keys of an update.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) store: Rc<Store>,
    /// Whether some of them are from an earlier run.
    pub(super) is_from_cache: bool,
}

impl Unit {
    /// Reads and compiles all templates, so that their errors are logged even if no store can be reached.
    pub(in super::super) fn compile_templates(&mut self) {
        self.is_uncompiled = false;
        for template in 0..self.outputs.len() {
            match self.compile(template) {
                Ok(compiled) => self.outputs[template].template = Some(compiled),
                // The first render compiles the template again.
                Err(_) if self.world.stopped() => return,
                Err(fault) => self.handle(Event::NotCompiled { template, fault }),
            }
        }
    }

    fn compile(&self, t: usize) -> Result<Template, Fault> {
        let src = &self.config.templates[t].src;
        let line = Line::new(Level::Debug, "compiling source template");
        self.logger.log(&about(&self.config, line.with("template", src.display().to_string())));
        let template = Template::compile_within(src, &self.world, self.limits, self.machine.scripts())
            .map_err(|error| self.fault_of(error, &self.store))?;
        if self.world.stamp(src).is_some_and(|stamp| stamp.size == 0) {
            let line = Line::new(Level::Warn, "the source template is empty");
            self.log(line.with("template", src.display().to_string()));
        }
        Ok(template)
    }

    /// Drops the compiled templates: the filters may have changed.
    pub(in super::super) fn forget_templates(&mut self) {
        self.outputs.iter_mut().for_each(|output| output.template = None);
    }

    /// Renders all templates, or continues to render them. `None`: the rest is deferred to the next turn, or all
    /// templates are rendered again after a lookup of names.
    pub(super) fn render_all(&mut self) -> Option<Vec<Rendering>> {
        let until = Instant::now() + LONGEST_TURN;
        let Round { keys, mut renderings } = match self.round.take() {
            Some(round) => round,
            None => self.begin_round(),
        };
        self.machine.swap_lookups(&mut self.lookups);
        while renderings.len() < self.outputs.len() && (Instant::now() < until || renderings.is_empty()) {
            renderings.push(self.render(renderings.len(), &keys.store));
        }
        self.machine.swap_lookups(&mut self.lookups);
        if renderings.len() < self.outputs.len() {
            self.round = Some(Round { keys, renderings });
            self.deferred = Some((Instant::now(), Effect::Render));
            return None;
        }
        self.rendered = self.state_files.as_ref().map(|files| Rendered::new(keys, files, Instant::now()));
        let is_complete = !self.lookups.is_incomplete();
        self.lookups.end_round(Instant::now());
        if is_complete {
            self.judged = None;
        }
        is_complete.then_some(renderings)
    }

    /// An update begins with the present keys, or with those that the guard has accepted.
    fn begin_round(&mut self) -> Round {
        let keys = match &self.judged {
            // The changes of these keys were taken when the guard accepted them. Later changes belong to the next
            // update.
            Some(judged) => judged.clone(),
            None => {
                self.note_changes();
                self.keys()
            }
        };
        Round { keys, renderings: Vec::new() }
    }

    /// The present keys.
    pub(super) fn keys(&self) -> Keys {
        Keys { store: Rc::clone(&self.store), is_from_cache: self.is_from_cache() }
    }

    /// Marks the templates that read a key which has changed since the last call.
    pub(super) fn note_changes(&mut self) {
        let changes = match self.store_mut().take_changes() {
            _ if self.renders_all => Changes::Everything,
            changes => changes,
        };
        self.outputs.iter_mut().for_each(|output| output.current.keys_changed(&changes));
    }

    fn render(&mut self, t: usize, store: &Rc<Store>) -> Rendering {
        match self.render_and_compare(t, store) {
            Ok(true) => Rendering::InSync,
            Ok(false) if self.outputs[t].was_undone() => Rendering::Rejected,
            Ok(false) => Rendering::Differs,
            // An interrupted lookup returns an error, too.
            Err(_) if self.world.stopped() => Rendering::Interrupted,
            Err(fault) => {
                if self.purpose == Purpose::Explain {
                    let outcome = &mut self.outputs[t].outcome;
                    let reads =
                        if let Outcome::Explained(reads) = std::mem::take(outcome) { Some(reads) } else { None };
                    *outcome = Outcome::Failed { reads, error: fault.message.clone() };
                }
                Rendering::Failed(fault)
            }
        }
    }

    /// Renders a template, unless its result is known to be in place. Returns whether the destination has the result
    /// already. If not, the result is kept.
    fn render_and_compare(&mut self, t: usize, store: &Rc<Store>) -> Result<bool, Fault> {
        let mut template = match self.outputs[t].template.take() {
            Some(template) if !template.is_stale(&*self.world) => {
                let output = &mut self.outputs[t];
                if output.current.holds(&mut output.destination) {
                    output.template = Some(template);
                    let line = Line::new(Level::Debug, "no key that the template reads has changed, not rendering it");
                    let line = line.with("dest", output.destination.path.display().to_string());
                    self.logger.log(&about(&self.config, line));
                    return Ok(true);
                }
                template
            }
            _ => {
                self.outputs[t].current = Current::default();
                self.compile(t)?
            }
        };
        (template.limits, template.recording) = (self.limits, self.recording());
        let output = &mut self.outputs[t];
        let began = self.record.is_some().then(Instant::now);
        let rendered = template.render(store, &self.world);
        if let (Some(record), Some(began), Ok(_)) = (&self.record, began, &rendered) {
            record.rendered_in(began.elapsed(), at(&*self.world));
        }
        let reads = template.take_reads();
        if self.purpose == Purpose::Explain {
            output.outcome = Outcome::Explained(reads);
        } else {
            output.current.rendered(reads);
        }
        let hints = template.take_hints();
        output.template = Some(template);
        for hint in hints {
            self.logger.log(&about(&self.config, Line::new(Level::Warn, hint)));
        }
        if self.machine.wants_names() {
            // The template is rendered again when the names are known.
            return Ok(true);
        }
        let content = rendered.map_err(|error| self.fault_of(error, store))?;
        let output = &mut self.outputs[t];
        match self.purpose {
            Purpose::Explain => return Ok(true),
            Purpose::Render => {
                output.outcome = Outcome::Rendered(content);
                return Ok(true);
            }
            Purpose::Apply { .. } | Purpose::Preview { .. } | Purpose::Keys => output.content = content,
        }

        let line = Line::new(Level::Debug, "comparing staged and dest config files");
        let line = line.with("dest", output.destination.path.display().to_string()).with("staged", "in memory");
        self.logger.log(&about(&self.config, line));
        let same = match output.destination.compare(&output.content)? {
            Comparison::InSync => {
                output.current.in_place(&output.content);
                output.latest = output.kept_file.is_some().then(|| Written::new(&output.content));
                true
            }
            Comparison::Differs => false,
            Comparison::Unknowable => output.written.as_ref() == Some(&output.content),
        };
        if same {
            output.outcome = Outcome::InSync;
            output.content = Vec::new();
        }
        Ok(same)
    }

    /// How much of a render is recorded: enough to decide whether the next update has to render the template.
    fn recording(&self) -> Recording {
        let reads_changes = |backend| backend::watches(backend, self.mode);
        match self.purpose {
            Purpose::Explain => Recording::Everything,
            // Without a watch every update may change all keys.
            _ if self.renders_all || !self.config.backends.iter().any(reads_changes) => Recording::Nothing,
            Purpose::Apply { .. } | Purpose::Preview { .. } | Purpose::Render | Purpose::Keys => Recording::Bounded,
        }
    }

    /// Splits the error of a template into its first line and the excerpt below it. A value of a secret store may have
    /// become the name of a key that is missing, or another part of the text. `store`: the store that the template has
    /// read.
    fn fault_of(&self, error: crate::template::Error, store: &Store) -> Fault {
        let secret = self.config.backends.iter().enumerate().filter(|(_, backend)| backend.secret);
        let values = secret.flat_map(|(layer, _)| store.layer(layer).values().map(|value| &**value));
        let text = error.with_message(|message| masked(message, values).into_owned()).to_string();
        match text.split_once('\n') {
            Some((message, detail)) => Fault { message: message.to_owned(), detail: Some(detail.to_owned()) },
            None => text.into(),
        }
    }
}
