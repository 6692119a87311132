with

products as (

    select
        product_id,
        basket_count
    from {{ ref('products') }}

),

published_products as (

    select
        product_id,
        basket_count
    from {{ ref('stg_published_products') }}

),

compared as (

    select
        coalesce(products.product_id, published_products.product_id) as product_id,
        case when published_products.product_id is null then 'new' else 'gone' end
            as product_change,
        products.basket_count,
        published_products.basket_count as published_basket_count
    from products
    full outer join published_products
        on products.product_id = published_products.product_id
    where products.product_id is null or published_products.product_id is null

)

select * from compared
