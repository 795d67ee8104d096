//! A protobuf message under construction, written from its end to its beginning.
//!
//! The length of a message stands before its contents. Written backwards, the length is known when
//! its place is reached: one pass, linear in the size, however deep the nesting, and no message is
//! encoded or measured twice. Weights are not copied; a rope holds them as shared buffers between
//! the bytes of the structure.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>.

use std::io::{self, Write};

use onnxq_tensor::{Buffer, Bytes};

/// From this size on data is shared instead of copied.
const SHARED: usize = 4096;

/// Bytes of structure gathered before a chunk is closed.
const CHUNK: usize = 1 << 20;

/// Bytes of a mapped tensor that are written before their memory is given back.
const WINDOW: usize = 16 << 20;

/// The type of what follows a tag.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Length = 2,
    Fixed32 = 5,
}

enum Chunk {
    Structure(Vec<u8>),
    Shared(Buffer),
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Rope {
    /// Last first.
    chunks: Vec<Chunk>,
    /// What stands before the chunks, its last byte first.
    front: Vec<u8>,
    len: u64,
}

/// A place in a [`Rope`], counted from the end of what it will be.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

impl Rope {
    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where the message ends whose last field is written next.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.len)
    }

    /// What was written since `end` is the contents of the message or packed field `field`.
    pub(crate) fn close(&mut self, field: u32, end: Mark) {
        self.varint(self.len - end.0);
        self.tag(field, Wire::Length);
    }

    /// An integer or enum, also where it is zero.
    pub(crate) fn int(&mut self, field: u32, value: i64) {
        self.varint(value as u64);
        self.tag(field, Wire::Varint);
    }

    /// A float, also where it is zero.
    pub(crate) fn float(&mut self, field: u32, value: f32) {
        self.raw(&value.to_le_bytes());
        self.tag(field, Wire::Fixed32);
    }

    /// Text, unless it is empty, which is the default.
    pub(crate) fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.required_text(field, text);
        }
    }

    /// Text, also where it is empty.
    pub(crate) fn required_text(&mut self, field: u32, text: &str) {
        self.raw(text.as_bytes());
        self.varint(text.len() as u64);
        self.tag(field, Wire::Length);
    }

    /// Bytes, or an encoded message.
    pub(crate) fn bytes(&mut self, field: u32, bytes: &Bytes) {
        if bytes.len() < SHARED {
            self.raw(bytes);
            self.varint(bytes.len() as u64);
            self.tag(field, Wire::Length);
        } else {
            self.buffer(field, &Buffer::from(bytes.clone()));
        }
    }

    /// The bytes of a tensor.
    pub(crate) fn buffer(&mut self, field: u32, buffer: &Buffer) {
        if buffer.len() < SHARED {
            self.raw(buffer);
        } else {
            self.close_chunk();
            self.chunks.push(Chunk::Shared(buffer.clone()));
            self.len += buffer.len() as u64;
        }
        self.varint(buffer.len() as u64);
        self.tag(field, Wire::Length);
    }

    /// Several texts, in their order; the empty ones as well.
    pub(crate) fn texts(&mut self, field: u32, texts: &[String]) {
        for text in texts.iter().rev() {
            self.required_text(field, text);
        }
    }

    fn tag(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field << 3 | wire as u32));
    }

    fn varint(&mut self, mut value: u64) {
        let (mut bytes, mut len) = ([0u8; 10], 0);
        while value >= 0x80 {
            bytes[len] = value as u8 | 0x80;
            value >>= 7;
            len += 1;
        }
        bytes[len] = value as u8;
        self.raw(&bytes[..=len]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.front.len() >= CHUNK {
            self.close_chunk();
        }
        self.front.extend(bytes.iter().rev());
        self.len += bytes.len() as u64;
    }

    fn close_chunk(&mut self) {
        if !self.front.is_empty() {
            let mut chunk = std::mem::take(&mut self.front);
            chunk.reverse();
            self.chunks.push(Chunk::Structure(chunk));
        }
    }

    /// Writes the message, from its beginning to its end.
    pub(crate) fn write_to(mut self, out: &mut dyn Write) -> io::Result<()> {
        self.close_chunk();
        while let Some(chunk) = self.chunks.pop() {
            match chunk {
                Chunk::Structure(bytes) => out.write_all(&bytes)?,
                Chunk::Shared(buffer) => write_buffer(&buffer, out)?,
            }
        }
        Ok(())
    }
}

/// Writes the bytes of a tensor, giving mapped memory back on the way.
pub(crate) fn write_buffer(buffer: &Buffer, out: &mut dyn Write) -> io::Result<()> {
    let mut from = 0;
    while from < buffer.len() {
        let to = buffer.len().min(from + WINDOW);
        out.write_all(&buffer[from..to])?;
        // From the beginning: a page that two windows share goes with the second.
        buffer.slice(from.saturating_sub(WINDOW)..to).release();
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rope: Rope) -> Vec<u8> {
        let (mut out, len) = (Vec::new(), rope.len());
        rope.write_to(&mut out).unwrap();
        assert_eq!(out.len() as u64, len);
        out
    }

    #[test]
    fn fields_come_out_in_reverse() {
        let mut rope = Rope::default();
        let end = rope.mark();
        rope.text(2, "ab");
        rope.int(1, 300);
        rope.close(3, end);
        rope.int(1, -1);
        let expected = [
            &[0x08][..],
            &[0xff; 9],
            &[0x01, 0x1a, 7, 0x08, 0xac, 0x02, 0x12, 2, b'a', b'b'],
        ];
        assert_eq!(written(rope), expected.concat());
    }

    #[test]
    fn large_data_is_shared_between_the_structure() {
        let data = Buffer::from(vec![7u8; SHARED]);
        let mut rope = Rope::default();
        rope.int(1, 1);
        rope.buffer(9, &data);
        rope.int(2, 2);
        assert_eq!(rope.chunks.len(), 2);
        assert!(matches!(&rope.chunks[1], Chunk::Shared(b) if b.same(&data)));
        let bytes = written(rope);
        assert_eq!(bytes[..5], [0x10, 2, 0x4a, 0x80, 0x20]);
        assert_eq!(bytes[5..5 + SHARED], data[..]);
        assert_eq!(bytes[5 + SHARED..], [0x08, 1]);
    }

    #[test]
    fn structure_is_cut_into_chunks() {
        let mut rope = Rope::default();
        let text = "x".repeat(CHUNK / 2);
        for _ in 0..5 {
            rope.text(1, &text);
        }
        assert!(rope.chunks.len() >= 2);
        assert!(
            written(rope)
                .chunks(text.len() + 4)
                .all(|c| c[0] == 0x0a && c[4] == b'x')
        );
    }
}
