//! Arrays by msgpack-numpy's convention, in its very bytes: a map with byte strings as keys. Neither numpy nor torch is
//! imported for encoding, and numpy for decoding only when a peer has sent an array.

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyComplex, PyDict, PyTuple, PyType};

use super::array_form::Form;
use super::fault::{Fault, type_name};

/// The map that is encoded in place of an array, a numpy scalar or a tensor.
pub(super) fn plain<'py>(value: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyAny>>, Fault> {
    let py = value.py();
    if let Some(numpy) = Numpy::if_imported(py)? {
        if value.is_instance(numpy.ndarray.bind(py))? {
            return array(value, numpy).map(Some);
        }
        if value.is_instance(numpy.generic.bind(py))? {
            return scalar(value, numpy).map(Some);
        }
    }
    if let Some(tensor) = if_imported(py, "torch", "Tensor")?
        && value.is_instance(&tensor)?
    {
        return of_tensor(value).map(Some);
    }
    Ok(None)
}

pub(super) fn complex<'py>(value: &Bound<'py, PyComplex>) -> PyResult<Bound<'py, PyDict>> {
    let py = value.py();
    let map = PyDict::new(py);
    map.set_item(PyBytes::new(py, b"complex"), true)?;
    // A subclass may have a repr of its own.
    map.set_item(PyBytes::new(py, b"data"), PyComplex::from_doubles(py, value.real(), value.imag()).repr()?)?;
    Ok(map)
}

fn array<'py>(array: &Bound<'py, PyAny>, numpy: &Numpy) -> Result<Bound<'py, PyAny>, Fault> {
    let py = array.py();
    if array.get_type().getattr_opt(intern!(py, "filled"))?.is_some() {
        return Err(Fault::Unsupported(
            "a masked array has no MessagePack form; send what `filled()` returns".into(),
        ));
    }
    let dtype = array.getattr(intern!(py, "dtype"))?;
    check(&dtype, numpy, 0)?;
    let is_record = kind(&dtype)? == 'V';
    let described = if is_record {
        dtype.getattr(intern!(py, "descr")).map_err(|error| {
            // Overlapping fields.
            if error.is_instance_of::<PyValueError>(py) { no_form(&dtype) } else { error.into() }
        })?
    } else {
        dtype.getattr(intern!(py, "str"))?
    };
    let map = PyDict::new(py);
    map.set_item(PyBytes::new(py, b"nd"), true)?;
    map.set_item(PyBytes::new(py, b"type"), described)?;
    map.set_item(PyBytes::new(py, b"kind"), PyBytes::new(py, if is_record { b"V" } else { b"" }))?;
    map.set_item(PyBytes::new(py, b"shape"), array.getattr(intern!(py, "shape"))?)?;
    map.set_item(PyBytes::new(py, b"data"), array.call_method0(intern!(py, "tobytes"))?)?;
    Ok(map.into_any())
}

fn scalar<'py>(scalar: &Bound<'py, PyAny>, numpy: &Numpy) -> Result<Bound<'py, PyAny>, Fault> {
    let py = scalar.py();
    let dtype = scalar.getattr(intern!(py, "dtype"))?;
    check(&dtype, numpy, 0)?;
    if kind(&dtype)? == 'V' {
        let what = format!("{} has no MessagePack form; send an array of one", type_name(scalar));
        return Err(Fault::Unsupported(what));
    }
    let map = PyDict::new(py);
    map.set_item(PyBytes::new(py, b"nd"), false)?;
    map.set_item(PyBytes::new(py, b"type"), dtype.getattr(intern!(py, "str"))?)?;
    map.set_item(PyBytes::new(py, b"data"), scalar.call_method0(intern!(py, "tobytes"))?)?;
    Ok(map.into_any())
}

fn of_tensor<'py>(tensor: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Fault> {
    let py = tensor.py();
    let dtype = tensor.getattr(intern!(py, "dtype"))?.str()?;
    if dtype.to_string_lossy() == "torch.bfloat16" {
        let what = "numpy has no bfloat16; send tensor.float(), or its bits as tensor.view(torch.int16)";
        return Err(Fault::Unsupported(what.into()));
    }
    let convert = || {
        let detached = tensor.call_method0(intern!(py, "detach"))?;
        detached.call_method0(intern!(py, "cpu"))?.call_method0(intern!(py, "numpy"))
    };
    convert().map_err(|error| {
        if error.is_instance_of::<PyException>(py) {
            Fault::Unsupported(format!("the tensor has no form in numpy: {}", error.value(py)))
        } else {
            error.into()
        }
    })
}

/// Refuses what would not arrive as what it is: objects, and types that numpy itself does not know by name.
fn check(dtype: &Bound<'_, PyAny>, numpy: &Numpy, depth: usize) -> Result<(), Fault> {
    const DEPTH_MAX: usize = 8;
    let py = dtype.py();
    let is_foreign = dtype.getattr(intern!(py, "isbuiltin"))?.extract::<i32>()? == 2;
    match kind(dtype)? {
        'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'U' | 'M' | 'm' if !is_foreign => Ok(()),
        'V' if !is_foreign && depth < DEPTH_MAX => {
            let class = dtype.getattr(intern!(py, "type"))?.cast_into::<PyType>().map_err(PyErr::from)?;
            if !class.is_subclass(numpy.void.bind(py))? {
                return Err(no_form(dtype));
            }
            let fields = dtype.getattr(intern!(py, "fields"))?;
            if fields.is_none() {
                return Ok(());
            }
            for field in fields.call_method0(intern!(py, "values"))?.try_iter()? {
                let field = field?;
                // The third is a title, which the convention has no place for.
                if field.len()? != 2 {
                    return Err(no_form(dtype));
                }
                check(&field.get_item(0)?.getattr(intern!(py, "base"))?, numpy, depth + 1)?;
            }
            Ok(())
        }
        _ => Err(no_form(dtype)),
    }
}

fn kind(dtype: &Bound<'_, PyAny>) -> PyResult<char> {
    dtype.getattr(intern!(dtype.py(), "kind"))?.extract()
}

fn no_form(dtype: &Bound<'_, PyAny>) -> Fault {
    let name = dtype.str().map_or_else(|_| "?".into(), |name| name.to_string_lossy().into_owned());
    Fault::Unsupported(format!("a numpy array of dtype {name} has no MessagePack form"))
}

/// What is needed to know numpy's objects when they are met.
struct Numpy {
    ndarray: Py<PyAny>,
    generic: Py<PyAny>,
    void: Py<PyAny>,
}

impl Numpy {
    /// An object of numpy's can be met only when numpy was imported.
    fn if_imported(py: Python<'_>) -> PyResult<Option<&'static Self>> {
        static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();
        if let Some(numpy) = NUMPY.get(py) {
            return Ok(Some(numpy));
        }
        let get = |name| if_imported(py, "numpy", name);
        let (Some(ndarray), Some(generic), Some(void)) = (get("ndarray")?, get("generic")?, get("void")?)
        else {
            return Ok(None);
        };
        let numpy = Self { ndarray: ndarray.unbind(), generic: generic.unbind(), void: void.unbind() };
        Ok(Some(NUMPY.get_or_init(py, || numpy)))
    }
}

/// An attribute of a module that the program has imported; `None` also while its import is not through.
fn if_imported<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    match MODULES.import(py, "sys", "modules")?.get_item(module)? {
        Some(module) if !module.is_none() => module.getattr_opt(name),
        _ => Ok(None),
    }
}

/// What a peer has sent by the convention. `None` if numpy is not there or cannot make it; then it is any other map.
pub(super) fn decode<'py>(py: Python<'py>, form: &Form<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let made = match form {
        Form::Complex(text) => py.get_type::<PyComplex>().call1((*text,)),
        Form::Scalar { .. } | Form::Array { .. } => {
            let Some(numpy) = numpy(py)? else { return Ok(None) };
            make(numpy, form)
        }
    };
    match made {
        Ok(made) => Ok(Some(made)),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

fn make<'py>(numpy: &Bound<'py, PyModule>, form: &Form<'_>) -> PyResult<Bound<'py, PyAny>> {
    let py = numpy.py();
    let (dtype, shape, data) = match form {
        Form::Array { dtype, shape, data } => (dtype, PyTuple::new(py, shape)?, data),
        Form::Scalar { dtype, data } => (dtype, PyTuple::empty(py), data),
        Form::Complex(_) => return Err(PyValueError::new_err("not of numpy")),
    };
    let dtype = numpy.getattr(intern!(py, "dtype"))?.call1((dtype.to_python(py)?,))?;
    // As large here as where it comes from? It is checked only that the data are as long as the peer's dtype says.
    let item_bytes: usize = dtype.getattr(intern!(py, "itemsize"))?.extract()?;
    if item_bytes != form.item_bytes() {
        return Err(PyValueError::new_err("another size"));
    }
    // Of an array of bytes numpy would make one that cannot be written to.
    let array = numpy.getattr(intern!(py, "ndarray"))?.call1((shape, dtype, PyByteArray::new(py, data)))?;
    match form {
        Form::Scalar { .. } => array.get_item(PyTuple::empty(py)),
        _ => Ok(array),
    }
}

/// Imported when the first array arrives; looked for once.
fn numpy(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyModule>>> {
    static NUMPY: PyOnceLock<Option<Py<PyModule>>> = PyOnceLock::new();
    let import = || match py.import("numpy") {
        Ok(numpy) => Ok(Some(numpy.unbind())),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    };
    let numpy: &Option<Py<PyModule>> = NUMPY.get_or_try_init(py, import)?;
    Ok(numpy.as_ref().map(|numpy| numpy.bind(py)))
}
