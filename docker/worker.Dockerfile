# A worker. The plain torch wheel brings CUDA; a CPU host builds with TORCH_INDEX=https://download.pytorch.org/whl/cpu.
FROM python:3.13-slim-bookworm
ARG TORCH_INDEX=
RUN useradd --create-home --uid 10001 lethe && install -d -o lethe /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
# torch alone: its index need not have the pinned versions of what it needs, which come below.
RUN pip install --no-cache-dir --no-deps -c constraints.txt ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch
COPY records records
COPY service service
COPY workers workers
COPY lethe lethe
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt ".[embedded,s3,otel]"
COPY --chmod=755 docker/with-secrets.sh /usr/local/bin/with-secrets
USER lethe
ENV LETHE_DATA_DIR=/data PYTHONUNBUFFERED=1
CMD ["lethe", "worker"]
