# The GPU side. The plain torch wheel brings CUDA; build with --build-arg TORCH_INDEX=<index of CPU wheels> for a CPU host.
FROM python:3.13-slim
ARG TORCH_INDEX=
RUN useradd --create-home --uid 10001 lethe && install -d -o lethe /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch
COPY records records
COPY service service
COPY workers workers
COPY lethe lethe
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt ".[embedded]"
USER lethe
ENV LETHE_DATA_DIR=/data PYTHONUNBUFFERED=1
CMD ["lethe", "worker"]
