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
    _bridge = [[DeltaModuleBridge alloc]
        initWithEmit:^(NSDictionary<NSString *, id> *event) { [weak emitOnEvent:event]; }
                 log:^(NSDictionary<NSString *, id> *line) { [weak emitOnLog:line]; }];
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

- (void)open:(NSDictionary *)config logLevel:(NSString * _Nullable)logLevel resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"open" passed:@[ config, present(logLevel) ] resolve:resolve reject:reject];
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

- (void)createInvitation:(double)device space:(NSString *)space level:(NSString *)level expires:(NSNumber *)expires once:(BOOL)once resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"createInvitation" passed:@[ @(device), space, level, present(expires), @(once) ] resolve:resolve reject:reject];
}

- (void)acceptInvitation:(double)device invitation:(NSString *)invitation resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"acceptInvitation" passed:@[ @(device), invitation ] resolve:resolve reject:reject];
}

- (void)openInbox:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"openInbox" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)contact:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"contact" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)requestDirect:(double)device contact:(NSString *)contact text:(NSString * _Nullable)text resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"requestDirect" passed:@[ @(device), contact, present(text) ] resolve:resolve reject:reject];
}

- (void)requestDirectOf:(double)device member:(NSString *)member text:(NSString * _Nullable)text resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"requestDirectOf" passed:@[ @(device), member, present(text) ] resolve:resolve reject:reject];
}

- (void)acceptDirect:(double)device thread:(NSString *)thread resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"acceptDirect" passed:@[ @(device), thread ] resolve:resolve reject:reject];
}

- (void)closeDirect:(double)device thread:(NSString *)thread resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"closeDirect" passed:@[ @(device), thread ] resolve:resolve reject:reject];
}

- (void)sendDirect:(double)device thread:(NSString *)thread content:(NSDictionary *)content resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"sendDirect" passed:@[ @(device), thread, content ] resolve:resolve reject:reject];
}

- (void)directThreads:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"directThreads" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)requestJoin:(double)device space:(NSString *)space manager:(NSString *)manager text:(NSString * _Nullable)text resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"requestJoin" passed:@[ @(device), space, manager, present(text) ] resolve:resolve reject:reject];
}

- (void)attach:(double)device source:(NSDictionary *)source mime:(NSString *)mime name:(NSString * _Nullable)name resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"attach" passed:@[ @(device), source, mime, present(name) ] resolve:resolve reject:reject];
}

- (void)blobStatus:(double)device blob:(NSString *)blob resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"blobStatus" passed:@[ @(device), blob ] resolve:resolve reject:reject];
}

- (void)fetchBlob:(double)device blob:(NSString *)blob resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"fetchBlob" passed:@[ @(device), blob ] resolve:resolve reject:reject];
}

- (void)dropBlob:(double)device blob:(NSString *)blob resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"dropBlob" passed:@[ @(device), blob ] resolve:resolve reject:reject];
}

- (void)writeBlob:(double)device blob:(NSString *)blob path:(NSString *)path resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"writeBlob" passed:@[ @(device), blob, path ] resolve:resolve reject:reject];
}

- (void)blobBytes:(double)device blob:(NSString *)blob resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"blobBytes" passed:@[ @(device), blob ] resolve:resolve reject:reject];
}

- (void)storageUse:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"storageUse" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)wipeTopic:(double)device topic:(NSString *)topic resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"wipeTopic" passed:@[ @(device), topic ] resolve:resolve reject:reject];
}

- (void)importFrom:(NSString *)path passphrase:(NSString *)passphrase config:(NSDictionary *)config logLevel:(NSString * _Nullable)logLevel resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"importFrom" passed:@[ path, passphrase, config, present(logLevel) ] resolve:resolve reject:reject];
}

- (void)setReadKey:(double)device topic:(NSString *)topic key:(NSString * _Nullable)key resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"setReadKey" passed:@[ @(device), topic, present(key) ] resolve:resolve reject:reject];
}

- (void)messagesBy:(double)device topic:(NSString *)topic author:(NSString *)author page:(NSDictionary *)page limit:(double)limit since:(NSNumber *)since until:(NSNumber *)until resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"messagesBy" passed:@[ @(device), topic, author, page, @(limit), present(since), present(until) ] resolve:resolve reject:reject];
}

- (void)messagesReceived:(double)device topic:(NSString *)topic limit:(double)limit since:(NSNumber *)since until:(NSNumber *)until after:(NSDictionary * _Nullable)after resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"messagesReceived" passed:@[ @(device), topic, @(limit), present(since), present(until), present(after) ] resolve:resolve reject:reject];
}

- (void)mentions:(double)device who:(NSString *)who limit:(double)limit topic:(NSString * _Nullable)topic before:(NSNumber *)before resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"mentions" passed:@[ @(device), who, @(limit), present(topic), present(before) ] resolve:resolve reject:reject];
}

- (void)person:(double)device topic:(NSString *)topic author:(NSString *)author resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"person" passed:@[ @(device), topic, author ] resolve:resolve reject:reject];
}

- (void)putValue:(double)device topic:(NSString *)topic at:(NSDictionary *)at value:(NSString *)value resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"putValue" passed:@[ @(device), topic, at, value ] resolve:resolve reject:reject];
}

- (void)deleteValue:(double)device topic:(NSString *)topic at:(NSDictionary *)at resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"deleteValue" passed:@[ @(device), topic, at ] resolve:resolve reject:reject];
}

- (void)value:(double)device topic:(NSString *)topic at:(NSDictionary *)at resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"value" passed:@[ @(device), topic, at ] resolve:resolve reject:reject];
}

- (void)values:(double)device topic:(NSString *)topic collection:(NSString *)collection limit:(double)limit prefix:(NSString *)prefix after:(NSString * _Nullable)after resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"values" passed:@[ @(device), topic, collection, @(limit), prefix, present(after) ] resolve:resolve reject:reject];
}

- (void)createDocument:(double)device topic:(NSString *)topic path:(NSString *)path resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"createDocument" passed:@[ @(device), topic, path ] resolve:resolve reject:reject];
}

- (void)writeDocument:(double)device topic:(NSString *)topic document:(NSString *)document bytes:(NSString *)bytes snapshot:(BOOL)snapshot resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"writeDocument" passed:@[ @(device), topic, document, bytes, @(snapshot) ] resolve:resolve reject:reject];
}

- (void)documents:(double)device topic:(NSString *)topic limit:(double)limit prefix:(NSString *)prefix after:(NSString * _Nullable)after resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"documents" passed:@[ @(device), topic, @(limit), prefix, present(after) ] resolve:resolve reject:reject];
}

- (void)documentParts:(double)device topic:(NSString *)topic document:(NSString *)document limit:(double)limit after:(double)after resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"documentParts" passed:@[ @(device), topic, document, @(limit), @(after) ] resolve:resolve reject:reject];
}

- (void)spaceDevices:(double)device space:(NSString *)space resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"spaceDevices" passed:@[ @(device), space ] resolve:resolve reject:reject];
}

- (void)changeSpace:(double)device space:(NSString *)space action:(NSDictionary *)action resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"changeSpace" passed:@[ @(device), space, action ] resolve:resolve reject:reject];
}

- (void)auditLog:(double)device space:(NSString *)space limit:(double)limit before:(NSDictionary * _Nullable)before resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"auditLog" passed:@[ @(device), space, @(limit), present(before) ] resolve:resolve reject:reject];
}

- (void)invitations:(double)device space:(NSString *)space resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"invitations" passed:@[ @(device), space ] resolve:resolve reject:reject];
}

- (void)joinRequests:(double)device space:(NSString *)space resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"joinRequests" passed:@[ @(device), space ] resolve:resolve reject:reject];
}

- (void)prune:(double)device topic:(NSString *)topic before:(double)before resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"prune" passed:@[ @(device), topic, @(before) ] resolve:resolve reject:reject];
}

- (void)wipe:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"wipe" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)keySnapshot:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"keySnapshot" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)exportTo:(double)device path:(NSString *)path passphrase:(NSString *)passphrase words:(NSString * _Nullable)words resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"exportTo" passed:@[ @(device), path, passphrase, present(words) ] resolve:resolve reject:reject];
}

- (void)identity:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"identity" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)ownDevices:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"ownDevices" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)revokeDevice:(double)device author:(NSString *)author resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"revokeDevice" passed:@[ @(device), author ] resolve:resolve reject:reject];
}

- (void)pair:(double)device resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"pair" passed:@[ @(device) ] resolve:resolve reject:reject];
}

- (void)pairingAsked:(double)pairing resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"pairingAsked" passed:@[ @(pairing) ] resolve:resolve reject:reject];
}

- (void)pairingAccept:(double)pairing resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"pairingAccept" passed:@[ @(pairing) ] resolve:resolve reject:reject];
}

- (void)pairingRefuse:(double)pairing resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"pairingRefuse" passed:@[ @(pairing) ] resolve:resolve reject:reject];
}

- (void)join:(double)device text:(NSString *)text resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"join" passed:@[ @(device), text ] resolve:resolve reject:reject];
}

- (void)pairingCode:(double)pairing resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"pairingCode" passed:@[ @(pairing) ] resolve:resolve reject:reject];
}

- (void)pairingJoined:(double)pairing resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"pairingJoined" passed:@[ @(pairing) ] resolve:resolve reject:reject];
}

- (void)pairingCancel:(double)pairing {
  [self call:@"pairingCancel" passed:@[ @(pairing) ] resolve:^(id value) {} reject:^(NSString *code, NSString *reason, NSError *error) {}];
}

- (void)storedMnemonic:(NSString *)name resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"storedMnemonic" passed:@[ name ] resolve:resolve reject:reject];
}

- (void)mnemonicIdentity:(NSString *)words resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"mnemonicIdentity" passed:@[ words ] resolve:resolve reject:reject];
}

- (void)identityAddress:(NSString *)identity resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"identityAddress" passed:@[ identity ] resolve:resolve reject:reject];
}

- (void)parseAddress:(NSString *)address resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"parseAddress" passed:@[ address ] resolve:resolve reject:reject];
}

- (void)members:(double)device space:(NSString *)space limit:(double)limit after:(NSString * _Nullable)after resolve:(RCTPromiseResolveBlock)resolve reject:(RCTPromiseRejectBlock)reject {
  [self call:@"members" passed:@[ @(device), space, @(limit), present(after) ] resolve:resolve reject:reject];
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
