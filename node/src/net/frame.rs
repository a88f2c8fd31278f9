//! Frames on a stream: a big-endian u32 length, and that many bytes.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use hashmesh_protocol::wire::MAX_FRAME;

/// Writes a frame. One that the other side must refuse is not sent: it would be this node that it keeps away from.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= MAX_FRAME);
    let len = len.ok_or_else(|| too_long(io::ErrorKind::InvalidInput, frame.len()))?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(frame).await?;
    stream.flush().await
}

/// Reads a frame; `None` where the stream ends between frames. Memory grows with what arrives, not with what is promised.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    if stream.read(&mut len[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut len[1..]).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MAX_FRAME {
        return Err(too_long(io::ErrorKind::InvalidData, len));
    }
    let mut frame = Vec::new();
    stream.take(len as u64).read_to_end(&mut frame).await?;
    if frame.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

fn too_long(kind: io::ErrorKind, len: usize) -> io::Error {
    io::Error::new(kind, format!("a frame of {len} bytes, more than {MAX_FRAME}"))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn frames_come_back_and_what_is_none_is_refused() {
        block_on(async {
            let mut stream = Vec::new();
            write(&mut stream, b"one").await.unwrap();
            write(&mut stream, b"").await.unwrap();
            let mut reader = Cursor::new(stream);
            assert_eq!(read(&mut reader).await.unwrap().unwrap(), b"one");
            assert_eq!(read(&mut reader).await.unwrap().unwrap(), b"");
            assert_eq!(read(&mut reader).await.unwrap(), None);
            for bad in [&b"\xff\xff\xff\xffx"[..], b"\0\0\0\x05abc", b"\0\0"] {
                assert!(read(&mut Cursor::new(bad)).await.is_err(), "{bad:?}");
            }
            let mut stream = Vec::new();
            let error = write(&mut stream, &vec![0; MAX_FRAME + 1]).await.unwrap_err();
            assert_eq!((error.kind(), stream.len()), (io::ErrorKind::InvalidInput, 0), "the fault is not the peer's");
        });
    }
}
