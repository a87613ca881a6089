package main

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/status/trace/otlp"
)

// traceFlush bounds how long the last traces may take at the end.
const traceFlush = 3 * time.Second

// sendTraces makes the control plane send traces if the environment asks for them. end sends
// the last ones. Call it when the control plane has ended, which then leads no more.
func sendTraces(ctx context.Context, c config, settings *controlplane.Config) (end func(), err error) {
	wanted, _ := otlp.Read(c.lookup) // without faults: see faults
	if !wanted.On() {
		return func() {}, nil
	}
	log := settings.Logger.Named("traces")
	otlp.LogErrors(log)
	provider, err := wanted.NewProvider(ctx, otlp.Service{Version: settings.Version, Instance: c.podName}, os.Stdout)
	if err != nil {
		return nil, err
	}
	settings.Traces = provider
	log.Info("traces are sent", zap.String("exporter", wanted.Exporter), zap.String("protocol", wanted.Protocol))
	return func() { flush(ctx, provider, log) }, nil
}

// flush sends the last traces, unless that takes too long.
func flush(ctx context.Context, provider interface{ Shutdown(context.Context) error }, log *zap.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceFlush)
	defer cancel()
	if err := provider.Shutdown(ctx); err != nil {
		log.Warn("the last traces were not sent", zap.Error(err))
	}
}
