"""Inside the box: check the daemon's messages of the virtual camera."""

import json
import sys
from collections import Counter
from pathlib import Path

lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
faces = [face for line in lines for face in line["faces"]]
scored = [face for face in faces if face["probabilities"] is not None]
sizes = {f"{line['width']}x{line['height']}" for line in lines}
latencies = sorted(line["latency_ms"] for line in lines)
print(
    f"{len(lines)} frames {' '.join(sorted(sizes))}, {len(faces)} faces, {len(scored)} scored; "
    f"median latency {latencies[len(latencies) // 2]:.0f} ms"
)
print("emotions:", dict(Counter(face["emotion"] for face in scored)))
print("first:", json.dumps(next(line for line in lines if line["faces"])))
assert sizes == {"1280x720"}
assert len(scored) >= len(lines) / 2
assert all(abs(sum(face["probabilities"].values()) - 1) < 0.001 for face in scored)
