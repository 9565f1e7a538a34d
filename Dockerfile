# The app in a container: docker compose up, then http://localhost:7860
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False

WORKDIR /app
COPY requirements.txt .
# PyTorch without CUDA: a fraction of the size, and the app needs no GPU.
RUN pip install torch --index-url https://download.pytorch.org/whl/cpu && pip install -r requirements.txt

COPY app.py LICENSE ./
COPY betavae betavae
COPY assets/celeba64 assets/celeba64
COPY assets/examples assets/examples
COPY directions directions

# The cache is made here so that a volume in its place belongs to the user.
RUN useradd --create-home --uid 1000 app && install -d -o app -g app /home/app/.cache /home/app/.cache/huggingface
USER app

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"GRADIO_SERVER_PORT\"]}/', timeout=4)"]
# Flags of app.py may follow: docker run IMAGE --model user/name
ENTRYPOINT ["python", "app.py"]
