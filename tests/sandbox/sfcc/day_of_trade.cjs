// A day of trade through Salesforce's own commerce-sdk: nothing of it is changed but its base URLs.
// Arguments: the folder that holds commerce-sdk, and the sandbox's URL. Prints what was seen as JSON.

const [, , folder, sandbox] = process.argv;
const { Orders, Products, CatalogsV1, ShopperLogin } = require(folder);

const SITE = "MainSite";
const parameters = { organizationId: "f_ecom_zzsb_001", shortCode: "sandbox1", siteId: SITE, clientId: "slas-client" };
const basic = (id, secret) => `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}`;
const client = (Api, path, token) =>
  new Api({ baseUri: `${sandbox}${path}`, headers: token ? { authorization: `Bearer ${token}` } : {}, parameters });

async function control(path, body) {
  const answer = await fetch(`${sandbox}/control${path}`, { method: "POST", body: JSON.stringify(body) });
  return answer.json();
}

// The SDK has no client for Account Manager: its users ask for that token themselves.
async function adminToken() {
  const answer = await fetch(`${sandbox}/dwsso/oauth2/access_token`, {
    method: "POST",
    headers: { authorization: basic("am-client", "am-secret") },
    body: new URLSearchParams({
      grant_type: "client_credentials",
      scope: "SALESFORCE_COMMERCE_API:zzsb_001 sfcc.orders.rw sfcc.products.rw sfcc.catalogs.rw",
    }),
  });
  return (await answer.json()).access_token;
}

function orderOf(number, product) {
  const cents = Math.round(product.price * 100);
  const tax = Math.round(cents - cents / 1.2);
  const address = { firstName: "Jane", lastName: "Doe", city: "Lyon", countryCode: "FR" };
  return {
    orderNo: number,
    channelType: "marketplace",
    currency: product.priceCurrency,
    orderTotal: (cents + 495) / 100,
    taxTotal: tax / 100,
    c_miraklOrderId: number,
    billingAddress: address,
    paymentInstruments: [
      { paymentMethodId: "MARKETPLACE", paymentTransaction: { amount: (cents + 495) / 100, transactionId: "t" } },
    ],
    productItems: [
      {
        productId: product.id,
        quantity: 1,
        basePrice: cents / 100,
        netPrice: (cents - tax) / 100,
        grossPrice: cents / 100,
        tax: tax / 100,
        shipmentId: "first",
      },
    ],
    shipments: [
      { shipmentId: "first", shippingMethod: "EXPRESS", shippingTotal: 4.95, taxTotal: 0, shippingAddress: address },
    ],
  };
}

async function main() {
  const seen = {};
  const login = client(ShopperLogin, "/shopper/auth/v1");
  const shopper = await login.getTrustedSystemAccessToken({
    headers: { authorization: basic("slas-client", "slas-secret") },
    body: {
      grant_type: "client_credentials",
      hint: "ts_ext_on_behalf_of",
      login_id: "guest",
      idp_origin: "ecom",
      channel_id: SITE,
      client_id: "slas-client",
    },
  });
  const admin = await adminToken();

  const catalogs = await client(CatalogsV1, "/product/catalogs/v1", admin).getCatalogs();
  seen.catalogs = catalogs.data.map((one) => one.id);
  const products = client(Products, "/product/products/v1", admin);
  const found = await products.searchProducts({ body: { query: { matchAllQuery: {} }, limit: 20 } });
  seen.products = found.total;
  seen.product = (await products.getProduct({ parameters: { productId: found.hits[0].id } })).id;

  const creating = client(Orders, "/checkout/orders/v1", shopper.access_token);
  const orders = client(Orders, "/checkout/orders/v1", admin);
  for (const [index, product] of found.hits.entries()) {
    await creating.createOrders({ body: orderOf(`M-${index}`, product) });
  }
  try {
    await creating.createOrders({ body: { ...orderOf("M-WRONG", found.hits[0]), orderTotal: 1 } });
  } catch (error) {
    seen.refused = [error.response.status, (await error.response.json()).title];
  }

  const one = { orderNo: "M-0" };
  await orders.updateOrderExportStatus({ parameters: one, body: { status: "exported" } });
  await orders.updateOrderConfirmationStatus({ parameters: one, body: { status: "confirmed" } });
  await orders.updateOrderPaymentStatus({ parameters: one, body: { status: "paid" } });
  await orders.updateOrder({ parameters: one, body: { c_miraklCommissionTotal: 1.25 } });
  await orders.updateOrderStatus({ parameters: { orderNo: "M-1" }, body: { status: "cancelled" } });
  await control("/orders/ship", { order_no: "M-0", carrier: "dpd uk ", tracking_number: "1Z" });

  const order = await orders.getOrder({ parameters: one });
  seen.order = {
    status: order.status,
    exportStatus: order.exportStatus,
    shippingStatus: order.shippingStatus,
    tracking: order.shipments[0].trackingNumber,
    carrier: order.shipments[0].c_carrier,
    commission: order.c_miraklCommissionTotal,
  };
  const list = await orders.getOrders({
    parameters: { sortBy: "last_modified_date", sortOrder: "asc", status: "cancelled", limit: 5 },
  });
  seen.cancelled = list.data.map((found) => found.orderNo);
  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
