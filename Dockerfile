# docker build -t my-clara . && docker run -p 8000:8000 my-clara
FROM python:3.12-slim
RUN pip install --no-cache-dir torch torchaudio --index-url https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install --no-cache-dir "/src[serve,search]" && rm -rf /src && useradd --create-home clara
USER clara
WORKDIR /home/clara
ENV HF_HUB_OFFLINE=1 GRADIO_ANALYTICS_ENABLED=False
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["clara", "serve", "--host", "0.0.0.0"]
