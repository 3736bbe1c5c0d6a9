//! A matrix of 32-bit floats in the memory of a device.

use crate::device::Device;
use crate::error::{Error, Result};

/// `[rows, cols]`, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    storage: Storage,
}

/// The buffer; its variant is its device.
#[derive(Clone, Debug, PartialEq)]
enum Storage {
    Cpu(Vec<f32>),
}

impl Tensor {
    /// All zero.
    pub fn zeros(rows: usize, cols: usize, device: Device) -> Self {
        match device {
            Device::Cpu => Tensor { rows, cols, storage: Storage::Cpu(vec![0.0; rows * cols]) },
        }
    }

    /// Takes values from the host, row after row.
    pub fn from_host(rows: usize, cols: usize, values: Vec<f32>, device: Device) -> Result<Self> {
        if values.len() != rows * cols {
            return Err(Error::Shape(format!("{} values for a matrix [{rows}, {cols}]", values.len())));
        }
        match device {
            Device::Cpu => Ok(Tensor { rows, cols, storage: Storage::Cpu(values) }),
        }
    }

    /// Gives the values to the host, row after row.
    pub fn into_host(self) -> Vec<f32> {
        match self.storage {
            Storage::Cpu(values) => values,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        match self.storage {
            Storage::Cpu(_) => Device::Cpu,
        }
    }

    /// The values, for kernels of the processor.
    pub fn host(&self) -> &[f32] {
        match &self.storage {
            Storage::Cpu(values) => values,
        }
    }

    /// The values, for kernels of the processor.
    pub fn host_mut(&mut self) -> &mut [f32] {
        match &mut self.storage {
            Storage::Cpu(values) => values,
        }
    }
}
