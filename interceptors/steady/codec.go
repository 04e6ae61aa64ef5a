package steady

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// codecOf returns the codec that the options of a call choose, as gRPC does: the last one wins, and without
// any it is proto.
func codecOf(opts []grpc.CallOption) (encoding.CodecV2, error) {
	var forced encoding.CodecV2
	name := proto.Name
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.ForceCodecV2CallOption:
			forced = o.CodecV2
		case grpc.ForceCodecCallOption:
			forced = codecV1{o.Codec}
		case customCodecOption:
			forced = codecV1{unnamed{o.Codec}}
		case grpc.ContentSubtypeCallOption:
			name = o.ContentSubtype
		}
	}
	if forced != nil {
		return forced, nil
	}
	if c := encoding.GetCodecV2(name); c != nil {
		return c, nil
	}
	if c := encoding.GetCodec(name); c != nil {
		return codecV1{c}, nil
	}
	return nil, status.Errorf(codes.Internal, "no codec registered for content-subtype %q", name)
}

// codecV1 lifts an older codec.
type codecV1 struct{ encoding.Codec }

func (c codecV1) Marshal(v any) (mem.BufferSlice, error) {
	data, err := c.Codec.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

func (c codecV1) Unmarshal(data mem.BufferSlice, v any) error {
	return c.Codec.Unmarshal(data.Materialize(), v)
}

// unnamed lifts a codec of the oldest kind, whose name gRPC keeps off the wire.
type unnamed struct{ codecV0 }

type codecV0 interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

func (unnamed) Name() string { return "" }

// kept is the reply of one attempt, still encoded. Attempts that run at once each keep their own, and only
// the winner's is decoded into the caller's message: that works for every type of message, and nothing that
// a loser received can mix with it.
type kept struct {
	data []byte
	set  bool
}

// keepCodec encodes as the call's codec does, and keeps replies encoded.
type keepCodec struct{ encoding.CodecV2 }

func (c keepCodec) Unmarshal(data mem.BufferSlice, v any) error {
	k, ok := v.(*kept)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	k.data, k.set = data.Materialize(), true
	return nil
}
