//! An array or a map that is being written, and where in it the walk stands.

use btlightning::raw::PayloadWriter;
use pyo3::exceptions::PyIndexError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::dict::BoundDictIterator;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyInt, PyIterator, PyList, PyMapping, PyString, PyTuple,
};

use super::fault::{Fault, exact, text, type_name};
use super::keys::{Budget, Keys, Kind};

/// Its length is written, and some of its elements are still to come.
pub(super) struct Open<'py> {
    elements: Elements<'py>,
    length: usize,
    /// How many elements were begun.
    begun: usize,
    /// Whether it is part of a key.
    pub(super) in_key: bool,
    /// Of a map: the key that was begun last.
    key: Option<Bound<'py, PyAny>>,
    /// Of a map: the value of that key, while the key itself is written.
    value: Option<Bound<'py, PyAny>>,
    /// Of a map: what that key is, and how long the frame was before it.
    key_written: (Kind, usize),
    keys: Keys,
}

enum Elements<'py> {
    List(Bound<'py, PyList>),
    Tuple(Bound<'py, PyTuple>),
    Dict(Bound<'py, PyDict>, BoundDictIterator<'py>),
    /// What `items()` of another mapping iterates over.
    Items(Bound<'py, PyIterator>),
}

/// What is to be written next.
pub(super) enum Next<'py> {
    Value(Bound<'py, PyAny>),
    /// The key of a map, unless it is a string: that is written already.
    Key(Bound<'py, PyAny>),
    End,
}

impl<'py> Open<'py> {
    pub(super) fn list(list: &Bound<'py, PyList>, in_key: bool) -> Self {
        Self::new(Elements::List(list.clone()), list.len(), in_key)
    }

    pub(super) fn tuple(tuple: &Bound<'py, PyTuple>, in_key: bool) -> Self {
        Self::new(Elements::Tuple(tuple.clone()), tuple.len(), in_key)
    }

    pub(super) fn dict(dict: &Bound<'py, PyDict>) -> Self {
        Self::new(Elements::Dict(dict.clone(), dict.iter()), dict.len(), false)
    }

    /// Any other mapping. It knows best in which order it goes, which an `OrderedDict` does not tell its base class.
    pub(super) fn mapping(mapping: &Bound<'py, PyMapping>) -> PyResult<Self> {
        let items = mapping.call_method0(intern!(mapping.py(), "items"))?.try_iter()?;
        Ok(Self::new(Elements::Items(items), mapping.len()?, false))
    }

    fn new(elements: Elements<'py>, length: usize, in_key: bool) -> Self {
        let key_written = (Kind::Text, 0);
        Self {
            elements,
            length,
            begun: 0,
            in_key,
            key: None,
            value: None,
            key_written,
            keys: Keys::default(),
        }
    }

    /// Writes what announces it.
    pub(super) fn announce(&self, out: &mut PayloadWriter) -> Result<(), Fault> {
        match self.elements {
            Elements::List(_) | Elements::Tuple(_) => out.array_len(self.length)?,
            Elements::Dict(..) | Elements::Items(_) => out.map_len(self.length)?,
        }
        Ok(())
    }

    /// Goes on. The elements have to be as many as were announced, whatever the code of the objects among them does
    /// meanwhile, or other threads.
    pub(super) fn next(&mut self, out: &mut PayloadWriter, budget: &mut Budget) -> Result<Next<'py>, Fault> {
        if self.value.is_some() {
            let (kind, before) = self.key_written;
            let bytes = out.frame_bytes() - before;
            self.keys.count(kind, bytes, budget).map_err(Fault::Invalid)?;
        }
        if let Some(value) = self.value.take() {
            return Ok(Next::Value(value));
        }
        let pair = match &mut self.elements {
            Elements::List(_) | Elements::Tuple(_) if self.begun == self.length => return Ok(Next::End),
            Elements::List(list) => {
                let element = list.get_item(self.begun);
                return self.element(element);
            }
            Elements::Tuple(tuple) => {
                let element = tuple.get_item(self.begun);
                return self.element(element);
            }
            // The iterator panics if it is asked after that.
            Elements::Dict(dict, _) if dict.len() != self.length => return Err(self.changed()),
            Elements::Dict(..) if self.begun == self.length => return Ok(Next::End),
            Elements::Dict(_, pairs) => pairs.next(),
            Elements::Items(items) => match items.next() {
                Some(pair) => Some(pair?.extract()?),
                None if self.begun == self.length => return Ok(Next::End),
                None => None,
            },
        };
        match pair {
            Some((key, value)) if self.begun < self.length => self.pair(key, value, out),
            _ => Err(self.changed()),
        }
    }

    fn element(&mut self, element: PyResult<Bound<'py, PyAny>>) -> Result<Next<'py>, Fault> {
        self.begun += 1;
        element.map(Next::Value).map_err(|error| match &self.elements {
            Elements::List(list) if error.is_instance_of::<PyIndexError>(list.py()) => self.changed(),
            _ => error.into(),
        })
    }

    fn pair(
        &mut self,
        key: Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
        out: &mut PayloadWriter,
    ) -> Result<Next<'py>, Fault> {
        self.begun += 1;
        let key = self.key.insert(key);
        let Some(string) = exact::<PyString>(key) else {
            self.value = Some(value);
            self.key_written = (Kind::Text, out.frame_bytes());
            return Ok(Next::Key(key.clone()));
        };
        match text(string) {
            Ok(utf8) => {
                out.str(utf8)?;
                Ok(Next::Value(value))
            }
            Err(fault) => {
                self.value = Some(value);
                Err(fault)
            }
        }
    }

    /// Takes note of what the key is that was begun last.
    pub(super) fn note_key(&mut self, kind: Kind) {
        self.key_written.0 = kind;
    }

    fn changed(&mut self) -> Fault {
        // It is about all of it, not about an element.
        (self.begun, self.key, self.value) = (0, None, None);
        Fault::Invalid("it changed while it was being encoded".into())
    }
}

/// How many levels of a path are shown at its beginning, and at its end.
const LEVELS_SHOWN: usize = 8;

/// Where a fault is: `data["a"][3]`, or `key 2.5 of data["a"]`.
pub(super) fn path(open: &[Open<'_>]) -> String {
    let mut path = String::from("data");
    for (level, open_here) in open.iter().enumerate() {
        if let (Some(key), Some(_)) = (&open_here.key, &open_here.value) {
            return format!("key {} of {path}", shown(key));
        }
        if level == LEVELS_SHOWN && open.len() > 2 * LEVELS_SHOWN {
            path.push_str("[...]");
        }
        if level >= LEVELS_SHOWN && level + LEVELS_SHOWN < open.len() {
            continue;
        }
        match (&open_here.key, open_here.begun) {
            (Some(key), _) => path.push_str(&format!("[{}]", shown(key))),
            (None, 0) => {}
            (None, begun) => path.push_str(&format!("[{}]", begun - 1)),
        }
    }
    path
}

/// A key in few words.
fn shown(key: &Bound<'_, PyAny>) -> String {
    const CHARS_MAX: usize = 64;
    let shortened = |text: &str| match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    };
    if let Ok(string) = key.cast::<PyString>()
        && let Ok(utf8) = string.to_str()
    {
        return format!("{:?}", shortened(utf8));
    }
    let has_short_repr = key.is_none()
        || exact::<PyString>(key).is_some()
        || exact::<PyInt>(key).is_some()
        || exact::<PyFloat>(key).is_some()
        || exact::<PyBool>(key).is_some()
        || exact::<PyBytes>(key).is_some();
    match key.repr() {
        Ok(repr) if has_short_repr => shortened(&repr.to_string_lossy()),
        _ => type_name(key),
    }
}
