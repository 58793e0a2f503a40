#import "DeltaModule.h"

#import "delta_react_native-Swift.h"

/// A value that JavaScript left out.
static id present(id value) { return value ?: NSNull.null; }

@implementation DeltaModule {
  DeltaModuleBridge *_bridge;
}

RCT_EXPORT_MODULE(Delta)

- (instancetype)init {
  if (self = [super init]) {
    __weak DeltaModule *weak = self;
    _bridge = [[DeltaModuleBridge alloc] initWithEmit:^(NSDictionary<NSString *, id> *event) {
      [weak emitOnEvent:event];
    }];
  }
  return self;
}

- (void)invalidate {
  [_bridge invalidate];
}

- (std::shared_ptr<facebook::react::TurboModule>)getTurboModule:
    (const facebook::react::ObjCTurboModule::InitParams &)params {
  return std::make_shared<facebook::react::NativeDeltaSpecJSI>(params);
}

- (void)call:(NSString *)name
      passed:(NSArray *)passed
     resolve:(RCTPromiseResolveBlock)resolve
      reject:(RCTPromiseRejectBlock)reject {
  [_bridge call:name
         passed:passed
        resolve:^(id value) { resolve(value); }
         reject:^(NSString *code, NSString *reason, NSError *error) { reject(code, reason, error); }];
}

- (void)open:(NSDictionary *)config resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"open" passed:@[ config ] resolve:resolve reject:reject];
}

- (void)close:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"close" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)initSync:(double)device relayHops:(NSDictionary *)relayHops syncUrl:(NSString *)syncUrl resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"initSync" passed:@[ @(device), relayHops, syncUrl ] resolve:resolve reject:reject];
}

- (void)openTopic:(double)device ticket:(NSString *)ticket resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"openTopic" passed:@[ @(device), ticket ] resolve:resolve reject:reject];
}

- (void)topics:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"topics" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)publish:(double)device topic:(NSString *)topic content:(NSDictionary *)content key:(NSString * _Nullable)key resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"publish" passed:@[ @(device), topic, content, present(key) ] resolve:resolve reject:reject];
}

- (void)subscribe:(double)device topic:(NSString *)topic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"subscribe" passed:@[ @(device), topic ] resolve:resolve reject:reject];
}

- (void)unsubscribe:(double)subscription {
  [self call:@"unsubscribe" passed:@[ @(subscription) ] resolve:^(id value) {} reject:^(NSString *code, NSString *reason, NSError *error) {}];
}

- (void)messages:(double)device topic:(NSString *)topic page:(NSDictionary *)page limit:(double)limit resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"messages" passed:@[ @(device), topic, page, @(limit) ] resolve:resolve reject:reject];
}

- (void)message:(double)device id:(NSString *)id resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"message" passed:@[ @(device), id ] resolve:resolve reject:reject];
}

- (void)reactions:(double)device message:(NSString *)message resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"reactions" passed:@[ @(device), message ] resolve:resolve reject:reject];
}

- (void)signal:(double)device topic:(NSString *)topic bytes:(NSString *)bytes resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"signal" passed:@[ @(device), topic, bytes ] resolve:resolve reject:reject];
}

- (void)status:(double)device topic:(NSString *)topic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"status" passed:@[ @(device), topic ] resolve:resolve reject:reject];
}

- (void)statistics:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"statistics" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)networkChanged:(double)device {
  [self call:@"networkChanged" passed:@[ @(device) ] resolve:^(id value) {} reject:^(NSString *code, NSString *reason, NSError *error) {}];
}

- (void)suspend:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"suspend" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)resume:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"resume" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)runOnce:(double)device deadline:(double)deadline resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"runOnce" passed:@[ @(device), @(deadline) ] resolve:resolve reject:reject];
}

- (void)nextWakeupAt:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"nextWakeupAt" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)messageHistory:(double)device id:(NSString *)id resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"messageHistory" passed:@[ @(device), id ] resolve:resolve reject:reject];
}

- (void)unread:(double)device topic:(NSString *)topic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"unread" passed:@[ @(device), topic ] resolve:resolve reject:reject];
}

- (void)setRead:(double)device topic:(NSString *)topic upto:(NSString *)upto resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"setRead" passed:@[ @(device), topic, upto ] resolve:resolve reject:reject];
}

- (void)profile:(double)device topic:(NSString *)topic author:(NSString *)author resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"profile" passed:@[ @(device), topic, author ] resolve:resolve reject:reject];
}

- (void)profiles:(double)device author:(NSString *)author resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"profiles" passed:@[ @(device), author ] resolve:resolve reject:reject];
}

- (void)search:(double)device search:(NSDictionary *)search limit:(double)limit resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"search" passed:@[ @(device), search, @(limit) ] resolve:resolve reject:reject];
}

- (void)outbox:(double)device topic:(NSString *)topic limit:(double)limit after:(NSNumber *)after resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"outbox" passed:@[ @(device), topic, @(limit), present(after) ] resolve:resolve reject:reject];
}

- (void)retry:(double)device topic:(NSString *)topic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"retry" passed:@[ @(device), topic ] resolve:resolve reject:reject];
}

- (void)cancel:(double)device topic:(NSString *)topic operation:(NSString *)operation resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"cancel" passed:@[ @(device), topic, operation ] resolve:resolve reject:reject];
}

- (void)createSpace:(double)device about:(NSDictionary *)about resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"createSpace" passed:@[ @(device), about ] resolve:resolve reject:reject];
}

- (void)createRoom:(double)device space:(NSString *)space about:(NSDictionary *)about resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"createRoom" passed:@[ @(device), space, about ] resolve:resolve reject:reject];
}

- (void)spaces:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"spaces" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)space:(double)device space:(NSString *)space resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"space" passed:@[ @(device), space ] resolve:resolve reject:reject];
}

- (void)rooms:(double)device space:(NSString *)space resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"rooms" passed:@[ @(device), space ] resolve:resolve reject:reject];
}

- (void)members:(double)device space:(NSString *)space resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"members" passed:@[ @(device), space ] resolve:resolve reject:reject];
}

- (void)createInvitation:(double)device space:(NSString *)space level:(NSString *)level expires:(NSNumber *)expires once:(BOOL)once resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"createInvitation" passed:@[ @(device), space, level, present(expires), @(once) ] resolve:resolve reject:reject];
}

- (void)acceptInvitation:(double)device invitation:(NSString *)invitation resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"acceptInvitation" passed:@[ @(device), invitation ] resolve:resolve reject:reject];
}

- (void)storageUse:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"storageUse" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)wipeTopic:(double)device topic:(NSString *)topic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"wipeTopic" passed:@[ @(device), topic ] resolve:resolve reject:reject];
}

- (void)generateTicket:(BOOL)isPublic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"generateTicket" passed:@[ @(isPublic) ] resolve:resolve reject:reject];
}

- (void)readOnlyTicket:(NSString *)ticket resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"readOnlyTicket" passed:@[ ticket ] resolve:resolve reject:reject];
}

- (void)ticketFacts:(NSString *)ticket resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"ticketFacts" passed:@[ ticket ] resolve:resolve reject:reject];
}

- (void)generateMnemonic:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"generateMnemonic" passed:@[] resolve:resolve reject:reject];
}

- (void)importMnemonic:(NSString *)name words:(NSString *)words resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"importMnemonic" passed:@[ name, words ] resolve:resolve reject:reject];
}

@end
