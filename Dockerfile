# Predicts with the published model, without a network and without root (docs/offline.md).
FROM python:3.11-slim-bookworm AS build
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -r requirements.txt

FROM python:3.11-slim-bookworm
COPY --from=build /venv /venv
COPY pins /app/pins
COPY published /app/published
COPY stages /app/stages
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN mkdir /out && chown 1000:1000 /out
USER 1000:1000
WORKDIR /out
ENTRYPOINT ["python", "-m", "stages.predict", "--model", "/app/published/aidpath"]
