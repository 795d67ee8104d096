//! The way of a product through its rows.

use crate::{product::Geometry, tile::ROWS};

/// The way through the rows, by groups.
pub(crate) struct Walk {
    pub(crate) groups: usize,
    geometry: Geometry,
    /// Groups of one run, or else rows from run to run.
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    /// Groups begin anew with each run, of so many groups.
    Runs(usize),
    /// Groups go on from run to run, which are so many rows apart.
    Through(usize),
    /// Groups of 16 rows of any runs, which are copied.
    Gathered,
}

/// Columns of the result for which a group less is worth the copies of as many rows.
const GATHER_COLUMNS: usize = 128;

impl Walk {
    pub(crate) fn of(g: &Geometry, columns: usize) -> Walk {
        let per_run = g.run_len.div_ceil(ROWS);
        let pitch = match g.row_stride {
            0 => 0,
            stride if g.run_stride.is_multiple_of(stride) => g.run_stride / stride,
            _ => 0,
        };
        let through = ((g.runs - 1) * pitch + g.run_len).div_ceil(ROWS);
        let (groups, way) = match pitch >= g.run_len && through < g.runs * per_run {
            true => (through, Way::Through(pitch)),
            false => (g.runs * per_run, Way::Runs(per_run)),
        };
        let gathered = g.rows().div_ceil(ROWS);
        let (groups, way) = match (groups - gathered) * columns > gathered * GATHER_COLUMNS {
            true => (gathered, Way::Gathered),
            false => (groups, way),
        };
        Walk {
            groups,
            geometry: *g,
            way,
        }
    }

    /// The run of the first row of a group, its place there, and after how many rows of the run another one begins.
    #[inline(always)]
    fn first(&self, group: usize) -> (usize, usize, usize) {
        let first = group * ROWS;
        match self.way {
            Way::Runs(per_run) => (group / per_run, group % per_run * ROWS, usize::MAX),
            Way::Through(len) => (first / len, first % len, len),
            Way::Gathered => {
                let len = self.geometry.run_len;
                (first / len, first % len, len)
            }
        }
    }

    /// Where the first row of a group begins, if the others follow at the stride; of what [`first`](Walk::first) gives.
    #[inline(always)]
    fn offset(&self, group: usize, run: usize, at: usize) -> Option<usize> {
        let g = &self.geometry;
        match self.way {
            Way::Runs(_) => Some(run * g.run_stride + at * g.row_stride),
            Way::Through(_) => Some(group * ROWS * g.row_stride),
            Way::Gathered => None,
        }
    }

    /// Where the rows of a group begin; those that there are not are beyond all data.
    pub(crate) fn starts(&self, group: usize) -> [usize; ROWS] {
        let g = &self.geometry;
        let (run, at, _) = self.first(group);
        if let Some(start) = self.offset(group, run, at) {
            return core::array::from_fn(|row| start + row * g.row_stride);
        }
        core::array::from_fn(|row| {
            let row = group * ROWS + row;
            match row < g.rows() {
                true => row / g.run_len * g.run_stride + row % g.run_len * g.row_stride,
                false => usize::MAX,
            }
        })
    }

    /// [`offset`](Walk::offset); and where the rows of the result begin, or `usize::MAX`; and how many rows there are
    /// up to the last one that is wanted.
    pub(crate) fn rows(
        &self,
        group: usize,
        strides: [usize; 2],
        rows: &mut [usize],
    ) -> (Option<usize>, usize) {
        let g = &self.geometry;
        let (mut run, mut at, len) = self.first(group);
        let offset = self.offset(group, run, at);
        // Mostly all are of one run.
        if run < g.runs && at + rows.len() <= g.run_len {
            let first = run * strides[0] + at * strides[1];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = first + i * strides[1];
            }
            return (offset, rows.len());
        }
        let mut wanted = 0;
        for (i, row) in rows.iter_mut().enumerate() {
            *row = usize::MAX;
            if run < g.runs && at < g.run_len {
                *row = run * strides[0] + at * strides[1];
                wanted = i + 1;
            }
            at += 1;
            if at == len {
                (run, at) = (run + 1, 0);
            }
        }
        (offset, wanted)
    }
}
