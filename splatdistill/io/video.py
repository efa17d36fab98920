"""Videos that play everywhere: H.264 in mp4, 4:2:0, even sizes."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe, read_frames
from jaxtyping import Float, UInt8
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.io.atomic import replacing
from splatdistill.io.images import to_bytes
from splatdistill.io.opening import Name

QUALITY = 16  # libx264's constant rate factor: 0 is lossless, 23 its default


def write_mp4(path: Name, frames: Iterable[Float[Tensor, "3 h w"]], fps: float = 30.0, note: str = "") -> int:
    """Encode frames as they come (all of one size, colours in [0, 1]); return the number of them. note: kept inside as the
    film's comment.

    Odd sizes get their last row or column twice. UserError if it cannot be written, and what was at `path` is then as
    before.
    """
    pictures = map(to_bytes, frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("a video without frames")
    with replacing(Path(path)) as temporary:
        return _encode(path, temporary, first, pictures, fps, note)


def check_mp4(path: Name, frames: int, width: int, height: int) -> None:
    """Raise a UserError unless a file decodes to so many pictures of this size (made even)."""
    reader = read_frames(str(path))
    try:
        found = next(reader)["source_size"]
        count = sum(1 for _ in reader)
    except (OSError, StopIteration, KeyError) as error:
        raise UserError(f"{path} could not be read back ({error}); is the disk full or failing?") from error
    finally:
        reader.close()
    if (count, *found) != (frames, width + width % 2, height + height % 2):
        raise UserError(f"{path} reads back as {count} frames of {found}, not {frames} of {width}x{height}")


def _encode(
    path: Name, temporary: Path, first: UInt8[np.ndarray, "h w 3"], others: Iterator[np.ndarray], fps: float, note: str
) -> int:
    h, w = first.shape[:2]
    pad = ((0, h % 2), (0, w % 2), (0, 0))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w + w % 2}x{h + h % 2}", "-r", str(fps), "-i", "-"]
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(QUALITY), "-movflags", "+faststart"]
    target += ["-metadata", f"comment={note}"] if note else []
    command = [get_ffmpeg_exe(), "-y", "-v", "error", *source, "-an", *target, "-f", "mp4", str(temporary)]
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=complaints)
        assert process.stdin is not None
        count = 0
        try:
            for frame in _chain(first, others):
                if frame.shape != first.shape:
                    raise ValueError(f"frame {count} is {frame.shape[1]}x{frame.shape[0]}, the first one {w}x{h}")
                process.stdin.write(np.pad(frame, pad, mode="edge").tobytes())
                count += 1
            process.stdin.close()
        except OSError:  # the pipe is broken: the encoder has given up, and says why below
            count = 0
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
        if code or not count:
            complaints.seek(0)
            why = complaints.read(2000).decode(errors="replace").strip() or f"it ended with code {code}"
            raise UserError(
                f"cannot write {path}: the video encoder gave up ({why}). What was there is as before. "
                "Make room or choose another place, and try again"
            )
    return count


def _chain(first: np.ndarray, others: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from others
