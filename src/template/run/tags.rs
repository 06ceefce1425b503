//! The tags that print something by themselves, and those that change the text that they enclose. Loops, includes and
//! macros have files of their own.

use crate::number;
use crate::store::Bytes;
use crate::template::builtin::layout;
use crate::template::builtin::lorem::{Lorem, Order};
use crate::template::compile::program::Slot;
use crate::template::reads::Question;
use crate::template::run::render::{Outcome, Render, Stop};
use crate::template::run::spaceless::spaceless;
use crate::template::syntax::ast::{Clock, Escape, FilterCall, Printed, WidthRatio};
use crate::template::value::Value;
use crate::template::value::meter::STEP;

impl Render {
    pub(super) fn capture(&self) -> Outcome<()> {
        let start = self.mark();
        self.open.borrow_mut().captures.push(start);
        Ok(())
    }

    pub(super) fn end_capture(&self) -> Outcome<Bytes> {
        let start = self.open.borrow_mut().captures.pop();
        self.take(start.unwrap_or(usize::MAX))
    }

    pub(super) fn end_filter(&self, filters: &[FilterCall]) -> Outcome<()> {
        let value = self.apply(Value::Str(self.end_capture()?), filters)?;
        self.print_value(&value)
    }

    pub(super) fn end_spaceless(&self) -> Outcome<()> {
        let text = self.end_capture()?;
        let _held = self.env.meter.room_for(text.len()).map_err(|message| Stop::At(self.tag.get(), message))?;
        self.print_text(&spaceless(&text))
    }

    pub(super) fn end_changed(&self, slot: Slot) -> Outcome<()> {
        let text = self.end_capture()?;
        self.charge(text.len(), self.tag.get())?;
        if self.changed(&text, slot) { self.print_text(&text) } else { Ok(()) }
    }

    pub(super) fn autoescape(&self, escape: Escape) -> Outcome<()> {
        let before = self.scopes.borrow_mut().set_escape(escape);
        self.open.borrow_mut().escapes.push(before);
        Ok(())
    }

    pub(super) fn end_autoescape(&self) -> Outcome<()> {
        let before = self.open.borrow_mut().escapes.pop().unwrap_or(Escape::Off);
        self.scopes.borrow_mut().set_escape(before);
        Ok(())
    }

    pub(super) fn first_of(&self, values: &[Printed]) -> Outcome<()> {
        for printed in values {
            let value = self.eval(&printed.value)?;
            if value.truthy() {
                let escape = !printed.safe && self.scopes.borrow().escape() == Escape::On;
                return if escape { self.print_escaped(&value) } else { self.print_value(&value) };
            }
        }
        Ok(())
    }

    /// Adds a half and rounds up, so the result is mostly too large by one, as recorded.
    pub(super) fn width_ratio(&self, ratio: &WidthRatio) -> Outcome<()> {
        let value = self.eval(&ratio.value)?.float();
        let most = self.eval(&ratio.most)?.float();
        let width = self.eval(&ratio.width)?.float();
        let value = Value::integer(number::truncate((value / most * width + 0.5).ceil()));
        match ratio.name {
            Some(name) => self.scopes.borrow_mut().set(name, value),
            None => self.print_value(&value)?,
        }
        Ok(())
    }

    pub(super) fn time(&self, clock: Clock, layout: &[u8]) -> Outcome<()> {
        let (unix, nanos, offset, zone) = match clock {
            Clock::Now => {
                let (unix, nanos) = self.env.machine(Question::Time).now();
                let (offset, zone) = self.env.machine(Question::Time).zone(unix);
                (unix, nanos, offset, zone)
            }
            // 2014-02-05 18:31:45
            Clock::Fake => (1_391_625_105, 0, 0, "UTC".to_owned()),
        };
        self.print_text(&layout::Time { unix, nanos, offset, zone: &zone }.format(layout))
    }

    pub(super) fn lorem(&self, lorem: &Lorem) -> Outcome<()> {
        let units = lorem.unit.split();
        let (between, before, behind) = lorem.unit.marks();
        let many = units.len() as u64;
        for number in 0..lorem.count {
            self.charge(STEP, self.tag.get())?;
            let at = match lorem.order {
                Order::Text => number % many,
                Order::Random => self.env.machine(Question::Random).random(many),
            };
            let unit = units[usize::try_from(at).expect("it is below the number of units")];
            let between = if number == 0 { "" } else { between };
            for text in [between, before, unit, behind] {
                self.print_text(text.as_bytes())?;
            }
        }
        Ok(())
    }

    pub(super) fn print_escaped(&self, value: &Value) -> Outcome<()> {
        // A filter `escape` of the user is used too, as in Go remco.
        let Some(escape) = self.library.scripts.lookup("escape") else { return self.print_value(value) };
        self.print_value(&self.filter(&escape, value, &Value::Nil, self.tag.get())?)
    }
}
