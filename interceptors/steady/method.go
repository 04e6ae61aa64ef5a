package steady

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// describe looks a full method name up in the descriptors linked into the program.
func describe(method string) protoreflect.MethodDescriptor {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if !ok {
		return nil
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	return sd.Methods().ByName(protoreflect.Name(name))
}

// repeatable reports whether a method's owner declares that doing it twice is as good as once.
func repeatable(d protoreflect.MethodDescriptor) bool {
	if d == nil {
		return false
	}
	o, ok := d.Options().(*descriptorpb.MethodOptions)
	if !ok {
		return false
	}
	switch o.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS, descriptorpb.MethodOptions_IDEMPOTENT:
		return true
	default:
		return false
	}
}

// limitedMethods returns the methods of a rule that it may retry only if an attempt never left the client,
// as far as descriptors tell, and whether there are methods that no descriptor describes.
func limitedMethods(c *compiled) (limited []string, undescribed bool) {
	for _, p := range c.Methods {
		switch {
		case p == "":
			undescribed = true
			protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
				for i := range f.Services().Len() {
					limited = appendLimited(limited, f.Services().Get(i))
				}
				return true
			})
		case strings.HasSuffix(p, "/"):
			d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.Trim(p, "/")))
			if sd, ok := d.(protoreflect.ServiceDescriptor); err == nil && ok {
				limited = appendLimited(limited, sd)
			} else {
				undescribed = true
			}
		default:
			d := describe(p)
			if d == nil {
				undescribed = true
			} else if !repeatable(d) {
				limited = append(limited, p)
			}
		}
	}
	return limited, undescribed
}

func appendLimited(list []string, sd protoreflect.ServiceDescriptor) []string {
	for i := range sd.Methods().Len() {
		if m := sd.Methods().Get(i); !repeatable(m) {
			list = append(list, "/"+string(sd.FullName())+"/"+string(m.Name()))
		}
	}
	return list
}
