package weighted_test

import (
	"context"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func stateOf(list []resolver.Endpoint) resolver.State { return resolver.State{Endpoints: list} }

// TestHostileReports: what makes no sense changes nothing, neither for whoever says it nor for the others.
func TestHostileReports(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, r := range map[string]load{
		"not a number":        {utilization: nan, rate: 100},
		"rate not a number":   {utilization: 0.1, rate: nan},
		"errors not a number": {utilization: 0.1, rate: 100, errors: nan},
		"infinite":            {utilization: inf, rate: 100},
		"infinite rate":       {utilization: 0.1, rate: inf},
		"infinite errors":     {utilization: 0.1, rate: 100, errors: inf},
		"all infinite":        {utilization: inf, rate: inf, errors: inf},
		"negative":            {utilization: -0.1, rate: 100},
		"negative rate":       {utilization: 0.1, rate: -100},
		"negative errors":     {utilization: 0.1, rate: 100, errors: -10},
		"both negative":       {utilization: -0.1, rate: -100},
		"zero":                {rate: 100},
		"zero rate":           {utilization: 0.1},
		"CPU not a number":    {cpu: nan, rate: 100},
		"overflow":            {utilization: 5e-324, rate: math.MaxFloat64},
		"underflow":           {utilization: math.MaxFloat64, rate: 5e-324},
		"nothing":             {},
	} {
		hostile(t, name, []load{r}, equal())
	}
	// Weights as large as numbers are do not add up to infinity, which would be nothing for everybody.
	huge := load{utilization: 1, rate: math.MaxFloat64}
	hostile(t, "huge", []load{huge, huge, huge}, equal())
}

// hostile has replicas report, a and so on, and fails unless the shares are as wanted.
func hostile(t *testing.T, name string, reports []load, want map[string]float64) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.EachServer(func(replica string) []grpc.ServerOption {
			i := int(replica[0] - 'a')
			if i >= len(reports) {
				return nil
			}
			data := reports[i].encode()
			return []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				if err := grpc.SetTrailer(ctx, metadata.Pairs("endpoint-load-metrics-bin", string(data))); err != nil {
					return nil, err
				}
				return h(ctx, req)
			})}
		}))
		conn := channel(fleet, `{"loadReports":{"blackout":"none"}}`)
		during(t, fleet, conn, 2*time.Second)
		near(t, name, during(t, fleet, conn, 2*time.Second), want)
	})
}

// encode makes an xds.data.orca.v3.OrcaLoadReport by hand: gRPC's recorder refuses what is out of range.
func (l load) encode() (data []byte) {
	for number, v := range map[protowire.Number]float64{1: l.cpu, 6: l.rate, 7: l.errors, 9: l.utilization} {
		data = protowire.AppendTag(data, number, protowire.Fixed64Type)
		data = protowire.AppendFixed64(data, math.Float64bits(v))
	}
	return data
}
