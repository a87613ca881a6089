package otlp

import (
	"time"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// errorInterval is the least time between two errors in the log.
const errorInterval = time.Minute

// LogErrors writes the errors of OpenTelemetry to the log, at most one per minute.
func LogErrors(log *zap.Logger) { otel.SetErrorHandler(newErrorLog(log)) }

// errorLog is an error handler. It is safe for concurrent use.
type errorLog struct {
	log   *zap.Logger
	limit *rate.Sometimes
}

func newErrorLog(log *zap.Logger) *errorLog {
	return &errorLog{log: log, limit: &rate.Sometimes{Interval: errorInterval}}
}

// Handle implements otel.ErrorHandler.
func (l *errorLog) Handle(err error) {
	l.limit.Do(func() {
		l.log.Warn("traces are not sent; further errors of the next minute are left out", zap.Error(err))
	})
}
