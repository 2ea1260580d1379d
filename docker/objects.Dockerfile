# The object store: Garage's program, and a shell that hands it its keys from files.
FROM dxflrs/garage:v2.4.1 AS garage
FROM alpine:3.22
RUN adduser -D -u 10002 garage && install -d -o garage /var/lib/garage/meta /var/lib/garage/data
COPY --from=garage /garage /usr/local/bin/garage
COPY docker/garage.toml /etc/garage.toml
COPY --chmod=755 docker/objects.sh /usr/local/bin/objects
USER garage
CMD ["objects"]
