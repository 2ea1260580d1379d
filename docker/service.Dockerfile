# The API, the sweeper and the migration: no tensor library on its disk.
FROM python:3.13-slim-bookworm
RUN useradd --create-home --uid 10001 lethe && install -d -o lethe /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY records records
COPY service service
COPY workers workers
COPY lethe lethe
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt ".[service,s3,otel]"
COPY --chmod=755 docker/with-secrets.sh /usr/local/bin/with-secrets
USER lethe
ENV LETHE_DATA_DIR=/data PYTHONUNBUFFERED=1
EXPOSE 8000
CMD ["lethe", "api", "--host", "0.0.0.0", "--port", "8000"]
